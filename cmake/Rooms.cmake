# SPDX-License-Identifier: Apache-2.0
#
# A room is a folder of src/ and a library target. It sees the headers of the rooms it names and of no other: its only private
# include folder holds links to just those rooms, so an #include against the direction of the plan does not compile.

set(TIDEMARK_ROOMS core kernel ring backend dma dirty migrate service cli)  # lowest first

# tidemark_room(NAME SOURCES ... [USES ROOM...] [LIBRARIES PUBLIC|PRIVATE ...])
function(tidemark_room room)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  add_library(tidemark_${room} STATIC ${ARG_SOURCES})
  target_include_directories(tidemark_${room} PUBLIC ${PROJECT_SOURCE_DIR}/include)
  tidemark_sees(tidemark_${room} ${room} ${ARG_USES})
  foreach(used IN LISTS ARG_USES)
    tidemark_check_direction(${room} ${used})
    target_link_libraries(tidemark_${room} PUBLIC tidemark_${used})
  endforeach()
  target_link_libraries(tidemark_${room} PRIVATE $<BUILD_INTERFACE:tidemark_compiler>)
  if(ARG_LIBRARIES)
    target_link_libraries(tidemark_${room} ${ARG_LIBRARIES})
  endif()
endfunction()

# Gives a target a private include folder in which just these rooms stand.
function(tidemark_sees target)
  set(view ${PROJECT_BINARY_DIR}/rooms/${target})
  file(REMOVE_RECURSE ${view})
  file(MAKE_DIRECTORY ${view})
  foreach(room IN LISTS ARGN)
    file(CREATE_LINK ${PROJECT_SOURCE_DIR}/src/${room} ${view}/${room} SYMBOLIC)
  endforeach()
  target_include_directories(${target} PRIVATE ${view})
endfunction()

function(tidemark_check_direction room used)
  list(FIND TIDEMARK_ROOMS ${room} above)
  list(FIND TIDEMARK_ROOMS ${used} below)
  if(below LESS 0 OR above LESS 0 OR NOT below LESS above)
    message(FATAL_ERROR "room ${room} may not use room ${used}: dependencies point down only (src/README.md)")
  endif()
endfunction()

# tidemark_test(NAME SOURCES ... [ROOMS ROOM...] [LIBRARIES ...]): a Boost.Test program under CTest.
function(tidemark_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;ROOMS;LIBRARIES" ${ARGN})
  add_executable(${name} ${ARG_SOURCES} ${PROJECT_SOURCE_DIR}/tests/support/main.cpp)
  target_compile_definitions(${name} PRIVATE BOOST_TEST_DYN_LINK)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  tidemark_sees(${name} ${ARG_ROOMS})
  foreach(room IN LISTS ARG_ROOMS)
    target_link_libraries(${name} PRIVATE tidemark_${room})
  endforeach()
  target_link_libraries(${name} PRIVATE tidemark_compiler Boost::unit_test_framework ${ARG_LIBRARIES})
  add_test(NAME ${name} COMMAND ${name} --color_output=no)
  set_tests_properties(${name} PROPERTIES TIMEOUT $<IF:$<BOOL:${TIDEMARK_SANITIZE}>,1800,300>)
endfunction()
