# SPDX-License-Identifier: Apache-2.0
# One place for the language, the warnings and the sanitizers.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

# What every target of ours is compiled with; nothing of it reaches a program that links the library.
add_library(tidemark_compiler INTERFACE)
target_compile_options(tidemark_compiler INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Woverloaded-virtual -Wold-style-cast
  -Wcast-qual -Werror)

if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(tidemark_compiler INTERFACE -Wno-zero-length-array)  # the kernel's structures end in arrays of no length
endif()

set(TIDEMARK_SANITIZE "" CACHE STRING "address,undefined or thread: the sanitizers to build with")
if(TIDEMARK_SANITIZE)
  add_compile_options(-fsanitize=${TIDEMARK_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TIDEMARK_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    add_compile_options(-fno-sanitize=function)  # clang 14 cannot compile lambda coroutines with it
  else()
    # g++ 12 with sanitizers: it warns of the fence in Asio's headers, which thread sanitizer cannot see, and of results it thinks unset.
    target_compile_options(tidemark_compiler INTERFACE -Wno-tsan -Wno-maybe-uninitialized)
  endif()
endif()
