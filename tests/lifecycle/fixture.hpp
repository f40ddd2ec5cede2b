// SPDX-License-Identifier: Apache-2.0
//
// What the cases of lifecycle_test share: the kernel that was chosen, a stage on it that looks whether all is given back at
// the end, and what a kernel cannot show.
//
// Threading: one thread.

#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <iostream>
#include <mutex>
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
  fixture(on which, const shape& change) : stage(which, change) {}
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

/// Remembers which pages of the one block it was told of, by whom, and which are discarded. Several lanes tell at a time.
struct pages_told final : dirty_sink {
  std::set<std::uint64_t> pages;
  std::set<std::uint64_t> gone;
  std::set<dirty_origin> origins;

  page_sink& from(dirty_origin which) noexcept override { return by_[static_cast<std::size_t>(which)]; }
  void discarded(page_run run) override {
    const std::lock_guard lock(mutex_);
    for (std::uint64_t i = 0; i < run.pages; ++i) gone.insert(run.first_page + i), pages.erase(run.first_page + i);
  }
  void populated(page_run run) override {
    const std::lock_guard lock(mutex_);
    for (std::uint64_t i = 0; i < run.pages; ++i) gone.erase(run.first_page + i), pages.insert(run.first_page + i);
  }

 private:
  struct teller final : page_sink {
    teller(pages_told& to, dirty_origin which) : to_(to), which_(which) {}
    void merge(block_index, std::uint64_t first, std::uint64_t count, std::span<const std::uint64_t> bits) override {
      for (std::uint64_t i = 0; i < count; ++i)
        if (((bits[i / 64] >> (i % 64)) & 1) != 0) to_.mark(first + i, which_);
    }
    void mark(page_run run) override {
      for (std::uint64_t i = 0; i < run.pages; ++i) to_.mark(run.first_page + i, which_);
    }

   private:
    pages_told& to_;
    const dirty_origin which_;
  };

  void mark(std::uint64_t which, dirty_origin by) {
    const std::lock_guard lock(mutex_);
    origins.insert(by);
    if (!gone.contains(which)) pages.insert(which);
  }

  std::mutex mutex_;
  std::array<teller, dirty_origins> by_{teller{*this, dirty_origin::device_log}, teller{*this, dirty_origin::container},
                                        teller{*this, dirty_origin::untracked}, teller{*this, dirty_origin::lost}};
};

}  // namespace tidemark::lifecycle
