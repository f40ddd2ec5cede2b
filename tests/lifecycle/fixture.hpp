// SPDX-License-Identifier: Apache-2.0
//
// What the cases of lifecycle_test share: the kernel that was chosen, a stage on it that looks whether all is given back at
// the end, and what a kernel cannot show.
//
// Threading: one thread.

#pragma once

#include <unistd.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <iostream>
#include <set>
#include <string>

#include "kernel/test_device.h"
#include "lifecycle/stage.hpp"

namespace tidemark::lifecycle {

inline on chosen() {
  const auto& suite = boost::unit_test::framework::master_test_suite();
  return suite.argc > 1 && std::string(suite.argv[1]) == "--kernel=linux" ? on::linux : on::model;
}

/// Whether the case ends here, since the kernel cannot show it.
inline bool not_shown(bool shown, const char* why) {
  if (!shown) std::cout << "not shown: " << boost::unit_test::framework::current_test_case().p_name << ": " << why << '\n';
  return !shown;
}
inline bool only_the_model(const char* why) { return not_shown(chosen() == on::model, why); }

struct fixture : stage {
  fixture() : stage(chosen()) {}
  explicit fixture(const shape& change) : stage(on::model, change) {}
  ~fixture() {
    end_space();
    settle();
    BOOST_TEST(held() == holdings{});
  }

  std::string emulated(std::size_t index = 0) { return test_device(groups().emulated.at(index)); }
  std::string edu() { return groups().backed->device; }
  const conformance::group_name& pair() { return *groups().pair; }

  /// The device writes eight bytes at an IOVA: 0, or the errno.
  int ring(const device& by, std::uint64_t iova) {
    const tidemark_test_doorbell bell{iova, 8, 1};
    const auto rung = by.kernel().write(by.file(), &bell, sizeof bell);
    return rung == sizeof bell ? 0 : static_cast<int>(-rung);
  }
};

inline bool says(const error& what, const std::string& text) { return what.message().find(text) != std::string::npos; }

template <class T>
error failure_of(const result<T>& outcome) {
  BOOST_REQUIRE(!outcome);
  return outcome.error();
}

inline void apart(kernel::model_options& options) {
  for (auto& group : options.groups) group.shares_container = false;
}

inline stage::shape power(bool dynamic_windows) {
  return [=](kernel::model_options& options) {
    options.spapr.emplace();
    options.spapr->dynamic_windows = dynamic_windows;
  };
}

/// Remembers which pages of the one block it was told of, and which are discarded.
struct pages_told final : dirty_sink {
  std::set<std::uint64_t> pages;
  std::set<std::uint64_t> gone;
  void merge(block_index, std::uint64_t first, std::uint64_t count, std::span<const std::uint64_t> bits) override {
    for (std::uint64_t i = 0; i < count; ++i)
      if (((bits[i / 64] >> (i % 64)) & 1) != 0) mark(first + i);
  }
  void mark_all(block_index, std::uint64_t first, std::uint64_t count) override {
    for (std::uint64_t i = 0; i < count; ++i) mark(first + i);
  }
  void discarded(block_index, std::uint64_t first, std::uint64_t count) override {
    for (std::uint64_t i = 0; i < count; ++i) gone.insert(first + i), pages.erase(first + i);
  }
  void populated(block_index, std::uint64_t first, std::uint64_t count) override {
    for (std::uint64_t i = 0; i < count; ++i) gone.erase(first + i), pages.insert(first + i);
  }

 private:
  void mark(std::uint64_t which) {
    if (!gone.contains(which)) pages.insert(which);
  }
};

}  // namespace tidemark::lifecycle
