// SPDX-License-Identifier: Apache-2.0
//
// A row of the table of answers: one request under one condition, and its one answer.

#pragma once

#include <vector>

#include "conformance/bench.hpp"

namespace tidemark::conformance {

/// In place of an errno: the one that ranges past 2^64 get.
inline constexpr long long when_wrapping = 1'000'000;

struct row {
  const char* id;  ///< request and condition
  long long (*ask)(const bench&);
  long long answer;
  kernel::kernel_version from{0, 0};
  kernel::kernel_version before{1000, 0};
  std::uint64_t memlock_pages = 0;
};

inline std::vector<test_case> cases_of(const std::vector<row>& rows) {
  std::vector<test_case> cases;
  for (const row& one : rows) {
    test_case made{"row: " + std::string(one.id),
                   [one](bench& b) {
                     const long long answer = one.ask(b);
                     take_transcript();  // what led there is no part of the row
                     expect(answer, one.answer == when_wrapping ? b.wraps() : one.answer, one.id);
                   },
                   one.from, one.before};
    made.memlock_pages = one.memlock_pages;
    cases.push_back(std::move(made));
  }
  return cases;
}

/// A type1v2 container with a test device's group and a mapping of 4 pages at page 4.
struct one_mapping {
  explicit one_mapping(const bench& b, unsigned long type = VFIO_TYPE1v2_IOMMU)
      : s(emulated_session(b, type)), ram(8 * page) {
    expect(s.map(4 * page, 4 * page, ram.address()), 0, "MAP");
  }
  session s;
  memory ram;
};

}  // namespace tidemark::conformance
