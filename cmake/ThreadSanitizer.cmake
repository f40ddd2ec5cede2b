# SPDX-License-Identifier: Apache-2.0
# What CTest includes before it runs the tests of a build with thread sanitizer.

set(ENV{TSAN_OPTIONS} "$ENV{TSAN_OPTIONS} suppressions=${CMAKE_CURRENT_LIST_DIR}/tsan_suppressions.txt")
