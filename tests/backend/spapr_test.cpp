// SPDX-License-Identifier: Apache-2.0
//
// The sPAPR backend on the model: what it asks, what it refuses by itself, and that a failure leaves everything as it was.
// No machine with such an IOMMU has run it.

#include "backend/spapr.hpp"

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/mman.h>
#include <tidemark/kernel_faulty.hpp>
#include <tidemark/kernel_model.hpp>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <functional>
#include <limits>
#include <map>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernel/passing.hpp"

using namespace tidemark;
using backend::spapr;

namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t pages_max = 256;
constexpr std::uint64_t window_bytes = 2ULL << 30;
constexpr std::uint64_t table_pages = window_bytes / page * 8 / page;  // of the default window
constexpr std::uint64_t far = 1ULL << 59;                              // where the model makes a further window
alignas(65536) std::array<std::byte, pages_max * page> memory;

mapping pages_at(std::uint64_t iova, std::uint64_t pages, std::uint64_t first = 0) {
  return {{iova, pages * page}, memory.data() + first * page, true};
}

/// Two pages where no memory is.
mapping nowhere(std::uint64_t iova) {
  void* const gone = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  BOOST_REQUIRE(munmap(gone, 2 * page) == 0);
  return {{iova, 2 * page}, gone, true};
}

bool says(const error& failure, const std::string& text) { return failure.message().find(text) != std::string::npos; }

kernel::model_options platform(bool v2, std::uint64_t memlock_pages = kernel::model_options::unlimited) {
  kernel::model_options options;
  options.spapr = kernel::model_spapr{.dynamic_windows = v2};
  options.memlock_pages = memlock_pages;
  return options;
}

/// Sees the windows asked for, can refuse them, and can tell of another platform.
class window_watch final : public kernel::passing {
 public:
  explicit window_watch(kernel::files& below) : passing(below) {}

  std::vector<vfio_iommu_spapr_tce_create> asked;
  std::vector<int> refusals;  ///< of as many TCE_CREATEs, the first in `asked` on
  std::function<void(vfio_iommu_spapr_tce_info&)> retell;
  unsigned long misanswered = 0;  ///< a request that does nothing and answers 1

  using files::ioctl;
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    if (request == VFIO_IOMMU_SPAPR_TCE_CREATE) {
      asked.push_back(*reinterpret_cast<const vfio_iommu_spapr_tce_create*>(argument));
      if (asked.size() <= refusals.size()) return refusals[asked.size() - 1];
    }
    if (request == misanswered) return 1;
    const int answer = passing::ioctl(fd, request, argument);
    if (request == VFIO_IOMMU_SPAPR_TCE_GET_INFO && retell) retell(*reinterpret_cast<vfio_iommu_spapr_tce_info*>(argument));
    return answer;
  }
};

/// What the kernel holds, all of it that can be seen.
struct facts {
  std::size_t mappings;
  std::uint64_t pinned;

  friend bool operator==(const facts&, const facts&) = default;
};
std::ostream& operator<<(std::ostream& out, const facts& what) {
  return out << what.mappings << " mappings, " << what.pinned << " pinned pages";
}

/// A container of an sPAPR type with group 2 in it, on a model of its own.
struct machine {
  explicit machine(bool v2) : machine(v2, platform(v2)) {}
  machine(bool v2, kernel::model_options options)
      : model(std::move(options)),
        files(model),
        windows(files),
        container(model, model.open("/dev/vfio/vfio", O_RDWR)),
        group(model, model.open("/dev/vfio/2", O_RDWR)),
        iommu(windows, container.get(), v2, [this](const error& what) { warnings.push_back(what); }) {
    int fd = container.get();
    const std::uintptr_t type = v2 ? VFIO_SPAPR_TCE_v2_IOMMU : VFIO_SPAPR_TCE_IOMMU;
    BOOST_REQUIRE(model.ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &fd) == 0);
    BOOST_REQUIRE(model.ioctl(fd, VFIO_SET_IOMMU, type) == 0);
  }

  /// Begun; with version 2 the kernel has made the default window, as it does at the first map.
  void ready() {
    BOOST_REQUIRE(iommu.begin());
    BOOST_REQUIRE(iommu.map(pages_at(0, 1)));
    BOOST_REQUIRE(iommu.unmap({0, page}, {}));
    files.clear();
  }
  facts now() const { return {model.mapping_count(), model.pinned_pages()}; }

  kernel::model model;
  kernel::faulty files;
  window_watch windows;
  kernel::handle container;
  kernel::handle group;
  std::vector<error> warnings;
  spapr iommu;
};

struct v1 : machine {
  v1() : machine(false) { ready(); }
};
struct v2 : machine {
  explicit v2(kernel::model_options options = platform(true)) : machine(true, std::move(options)) { ready(); }
};

error map_fails(machine& on, const mapping& what, int errno_value) {
  const auto before = on.now();
  const auto mapped = on.iommu.map(what);
  BOOST_REQUIRE(!mapped);
  BOOST_TEST(mapped.error().code.value() == errno_value);
  BOOST_TEST((mapped.error().code.category() == boost::system::system_category()));
  BOOST_TEST((mapped.error().what == operation::map));
  BOOST_TEST((mapped.error().range == what.at));
  BOOST_TEST(on.now() == before);
  return mapped.error();
}

error unmap_fails(machine& on, iova_range range, int errno_value) {
  const auto unmapped = on.iommu.unmap(range, {});
  BOOST_REQUIRE(!unmapped);
  BOOST_TEST(unmapped.error().code.value() == errno_value);
  BOOST_TEST((unmapped.error().what == operation::unmap));
  BOOST_TEST((unmapped.error().range == range));
  return unmapped.error();
}

/// Both versions answer alike.
template <class Case>
void with_both(Case run) {
  for (const bool second : {false, true}) {
    BOOST_TEST_CONTEXT((second ? "v2" : "v1")) {
      machine on(second);
      on.ready();
      run(on);
    }
  }
}

std::size_t calls_of(machine& on, const mapping& what) {
  on.files.clear();
  BOOST_REQUIRE(on.iommu.map(what));
  const auto calls = on.files.calls();
  BOOST_REQUIRE(on.iommu.unmap(what.at, {}));
  return calls;
}

/// Each call of a map fails once. Nothing is left then, and the same map succeeds.
void sweep_map(machine& on, const mapping& what) {
  const auto points = calls_of(on, what);
  const auto before = on.now();
  for (std::size_t n = 1; n <= points; ++n) {
    BOOST_TEST_CONTEXT("call " << n << " of " << points) {
      on.files.clear();
      on.files.fail_nth(n, EIO);
      map_fails(on, what, EIO);
      BOOST_TEST(on.files.injected() == 1U);
      BOOST_TEST(on.iommu.map(what).has_value());
      BOOST_TEST(on.iommu.unmap(what.at, {}).value() == what.at.size);
      BOOST_TEST(on.now() == before);
    }
  }
}

/// Each call of an unmap of all these fails once. What devices no longer reach is unmapped; what the kernel did not take
/// back after that is a warning. The same unmap then does what was left to do.
void sweep_unmap(machine& on, const std::vector<mapping>& all, iova_range range) {
  const auto before = on.now();
  for (std::size_t n = 1;; ++n) {
    BOOST_TEST_CONTEXT("call " << n) {
      for (const auto& one : all) BOOST_REQUIRE(on.iommu.map(one));
      on.files.clear();
      on.files.fail_nth(n, EIO);
      const auto unmapped = on.iommu.unmap(range, {});
      const bool failed = on.files.injected() == 1;
      on.files.fail_none();
      const bool still_mapped = on.model.mapping_count() != 0;
      BOOST_TEST(unmapped.has_value() == !still_mapped);
      BOOST_TEST(std::exchange(on.warnings, {}).size() == (failed && !still_mapped ? 1U : 0U));
      if (failed) BOOST_TEST((on.iommu.unmap(range, {}).value() != 0U) == still_mapped);
      BOOST_TEST(on.now() == before);
      if (!failed) return;
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(spapr_backend)

// --- version 1 ---

// covers R4 R12
BOOST_AUTO_TEST_CASE(v1_begins_by_enabling_its_window_and_tells_it) {
  machine on(false);
  BOOST_REQUIRE(on.iommu.begin());
  BOOST_TEST(on.model.pinned_pages() == window_bytes / page);
  const auto info = on.iommu.read_info().value();
  BOOST_TEST((info.type == iommu_type::spapr_v1));
  BOOST_TEST(info.page_sizes == page);
  BOOST_TEST(info.mappings_available == std::numeric_limits<std::uint64_t>::max());
  BOOST_TEST((info.windows == std::vector<iova_range>{{0, window_bytes}}));
  BOOST_TEST(!info.can_track_dirty);
}

// covers R12
BOOST_AUTO_TEST_CASE(v1_that_may_not_lock_its_window_says_how_to_mend_it) {
  machine on(false, platform(false, window_bytes / page - 1));
  const auto begun = on.iommu.begin();
  BOOST_REQUIRE(!begun);
  BOOST_TEST(begun.error().code.value() == ENOMEM);
  BOOST_TEST((begun.error().what == operation::connect_container));
  BOOST_TEST(says(begun.error(), "VFIO_IOMMU_ENABLE"));
  BOOST_TEST(says(begun.error(), std::to_string(window_bytes) + " bytes"));
  BOOST_TEST(says(begun.error(), "ulimit -l"));
  BOOST_TEST(on.model.pinned_pages() == 0U);
}

// covers R12
BOOST_AUTO_TEST_CASE(v1_that_fails_to_begin_can_begin_again) {
  for (const auto& [n, what] : {std::pair{1U, operation::get_info}, std::pair{2U, operation::connect_container}}) {
    machine on(false);
    on.files.fail_nth(n, EIO);
    const auto begun = on.iommu.begin();
    BOOST_REQUIRE(!begun);
    BOOST_TEST(begun.error().code.value() == EIO);
    BOOST_TEST((begun.error().what == what));
    BOOST_TEST(on.model.pinned_pages() == 0U);
    BOOST_REQUIRE(on.iommu.begin());
    BOOST_TEST(on.iommu.read_info().value().windows.size() == 1U);
  }
}

// covers R12 R21
BOOST_AUTO_TEST_CASE(v1_refuses_what_is_not_wholly_in_its_window_before_the_kernel_sees_it) {
  v1 on;
  for (const std::uint64_t iova : {window_bytes, window_bytes - page, far}) {
    const auto failure = map_fails(on, pages_at(iova, 2), ENXIO);
    BOOST_TEST(says(failure, "[0x0, +0x80000000)"));
  }
  BOOST_TEST(on.files.calls() == 0U);
  BOOST_TEST(on.iommu.map(pages_at(window_bytes - 2 * page, 2)).has_value());
}

// covers R12
BOOST_AUTO_TEST_CASE(v1_maps_memory_that_is_not_there_not_at_all) {
  v1 on;
  const auto wild = nowhere(0);
  BOOST_TEST(says(map_fails(on, wild, EFAULT), "cannot be pinned"));
}

// --- both ---

// covers R12 R14
BOOST_AUTO_TEST_CASE(a_map_in_the_default_window_reads_always_and_writes_unless_it_is_read_only) {
  with_both([](machine& on) {
    auto read_only = pages_at(0, 1);
    read_only.writable = false;
    BOOST_REQUIRE(on.iommu.map(read_only));
    BOOST_REQUIRE(on.iommu.map(pages_at(4 * page, 2, 1)));
    const auto there = on.model.mappings();
    BOOST_REQUIRE(there.size() == 2U);
    BOOST_TEST((there[0].readable && !there[0].writable && there[0].size == page));
    BOOST_TEST((there[1].readable && there[1].writable && there[1].size == 2 * page && there[1].iova == 4 * page));
    BOOST_TEST(there[1].vaddr == reinterpret_cast<std::uintptr_t>(memory.data() + page));
  });
}

// covers R12: the kernel would write over it
BOOST_AUTO_TEST_CASE(a_map_that_meets_another_is_refused_before_the_kernel_sees_it) {
  with_both([](machine& on) {
    BOOST_REQUIRE(on.iommu.map(pages_at(8 * page, 4)));
    on.files.clear();
    for (const auto& [first, pages] : {std::pair{8U, 4U}, {9U, 1U}, {11U, 4U}, {0U, 9U}, {0U, 32U}}) {
      const auto failure = map_fails(on, pages_at(first * page, pages, 16), EEXIST);
      BOOST_TEST(says(failure, "meets a mapping that is already there: [0x8000, +0x4000)"));
    }
    BOOST_TEST(on.files.calls() == 0U);
    BOOST_TEST(on.iommu.map(pages_at(12 * page, 1, 16)).has_value());
    BOOST_TEST(on.iommu.map(pages_at(7 * page, 1, 17)).has_value());
  });
}

// covers R12
BOOST_AUTO_TEST_CASE(a_map_that_is_empty_misaligned_or_wraps_is_refused_before_the_kernel_sees_it) {
  with_both([](machine& on) {
    auto inside = pages_at(0, 1);
    inside.host = memory.data() + 8;
    for (const auto& one : {pages_at(0, 0), pages_at(8, 1), inside, mapping{{0, page + 8}, memory.data(), true},
                            pages_at(~std::uint64_t{0} - page + 1, 2)})
      map_fails(on, one, EINVAL);
    BOOST_TEST(on.files.calls() == 0U);
  });
}

// covers R12 R18
BOOST_AUTO_TEST_CASE(an_unmap_gives_the_bytes_of_all_mappings_in_the_range) {
  with_both([](machine& on) {
    const auto before = on.now();
    BOOST_REQUIRE(on.iommu.map(pages_at(4 * page, 4)));
    BOOST_REQUIRE(on.iommu.map(pages_at(8 * page, 1, 4)));
    BOOST_REQUIRE(on.iommu.map(pages_at(16 * page, 2, 8)));
    BOOST_TEST(on.iommu.unmap({0, 4 * page}, {}).value() == 0U);
    BOOST_TEST(on.iommu.unmap({9 * page, 7 * page}, {}).value() == 0U);
    BOOST_TEST(on.iommu.unmap({0, 9 * page}, {}).value() == 5 * page);
    BOOST_TEST(on.model.mapping_count() == 1U);
    BOOST_TEST(on.iommu.unmap({0, ~std::uint64_t{0}}, {}).value() == 2 * page);
    BOOST_TEST(on.iommu.unmap({0, 32 * page}, {}).value() == 0U);
    BOOST_TEST(on.now() == before);
  });
}

// covers R12: the kernel would cut it
BOOST_AUTO_TEST_CASE(an_unmap_that_cuts_a_mapping_is_refused_before_the_kernel_sees_it) {
  with_both([](machine& on) {
    BOOST_REQUIRE(on.iommu.map(pages_at(0, 2)));
    BOOST_REQUIRE(on.iommu.map(pages_at(4 * page, 4, 2)));
    on.files.clear();
    for (const auto& [first, pages] : {std::pair{4U, 3U}, {5U, 3U}, {5U, 1U}, {0U, 5U}, {7U, 8U}}) {
      const auto failure = unmap_fails(on, {first * page, pages * page}, EINVAL);
      BOOST_TEST(says(failure, "cuts the mapping [0x4000, +0x4000)"));
    }
    unmap_fails(on, {0, 0}, EINVAL);
    unmap_fails(on, {page, ~std::uint64_t{0}}, EINVAL);
    BOOST_TEST(on.files.calls() == 0U);
    BOOST_TEST(on.model.mapping_count() == 2U);
  });
}

// covers R12 R25
BOOST_AUTO_TEST_CASE(there_is_no_dirty_tracking) {
  with_both([](machine& on) {
    BOOST_REQUIRE(on.iommu.map(pages_at(0, 1)));
    std::vector<std::uint64_t> dirty(1);
    for (const auto& failure : {on.iommu.set_dirty_tracking(true).error(), on.iommu.set_dirty_tracking(false).error(),
                                on.iommu.query_dirty({0, page}, dirty).error(), on.iommu.unmap({0, page}, dirty).error()})
      BOOST_TEST(failure.code == make_error_code(errc::dirty_not_supported));
    BOOST_TEST(on.model.mapping_count() == 1U);
  });
}

// covers R12
BOOST_AUTO_TEST_CASE(whichever_call_of_a_map_fails_nothing_is_left_and_it_succeeds_then) {
  with_both([](machine& on) {
    BOOST_REQUIRE(on.iommu.map(pages_at(0, 2, 100)));
    sweep_map(on, pages_at(4 * page, 8));
    BOOST_TEST(on.iommu.unmap({0, 2 * page}, {}).value() == 2 * page);
  });
}

// covers R12
BOOST_AUTO_TEST_CASE(whichever_call_of_an_unmap_fails_the_same_unmap_does_the_rest) {
  with_both([](machine& on) {
    sweep_unmap(on, {pages_at(0, 2), pages_at(4 * page, 8, 2), pages_at(12 * page, 1, 10)}, {0, 16 * page});
  });
}

// covers R12: the real driver does so where its check of the IOVA fails
BOOST_AUTO_TEST_CASE(a_map_or_an_unmap_that_answers_1_has_failed) {
  with_both([](machine& on) {
    on.windows.misanswered = VFIO_IOMMU_MAP_DMA;
    map_fails(on, pages_at(0, 1), EINVAL);
    on.windows.misanswered = 0;
    BOOST_REQUIRE(on.iommu.map(pages_at(0, 1)));
    on.windows.misanswered = VFIO_IOMMU_UNMAP_DMA;
    unmap_fails(on, {0, page}, EINVAL);
    on.windows.misanswered = 0;
    BOOST_TEST(on.iommu.unmap({0, page}, {}).value() == page);
  });
}

// covers R12
BOOST_AUTO_TEST_CASE(information_that_cannot_be_had_is_an_error) {
  with_both([](machine& on) {
    on.files.fail_nth(1, EIO);
    const auto info = on.iommu.read_info();
    BOOST_REQUIRE(!info);
    BOOST_TEST(info.error().code.value() == EIO);
    BOOST_TEST((info.error().what == operation::get_info));
  });
}

// --- version 2: memory ---

// covers R4 R12
BOOST_AUTO_TEST_CASE(v2_begins_and_tells_no_windows) {
  machine on(true);
  BOOST_REQUIRE(on.iommu.begin());
  BOOST_TEST(on.model.pinned_pages() == 0U);
  const auto info = on.iommu.read_info().value();
  BOOST_TEST((info.type == iommu_type::spapr_v2));
  BOOST_TEST(info.page_sizes == 0x1011000U);
  BOOST_TEST(info.mappings_available == std::numeric_limits<std::uint64_t>::max());
  BOOST_TEST(info.windows.empty());
  BOOST_TEST(!info.can_track_dirty);
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_registers_memory_as_it_is_mapped_and_unregisters_it_with_the_last_mapping) {
  v2 on;
  BOOST_TEST(on.model.pinned_pages() == table_pages);
  BOOST_REQUIRE(on.iommu.map(pages_at(0, 8)));
  BOOST_TEST(on.model.pinned_pages() == table_pages + 8);
  BOOST_REQUIRE(on.iommu.map(pages_at(16 * page, 8)));     // the same again
  BOOST_REQUIRE(on.iommu.map(pages_at(32 * page, 2, 3)));  // and a part of it
  BOOST_TEST(on.model.pinned_pages() == table_pages + 8);
  BOOST_REQUIRE(on.iommu.unmap({0, 8 * page}, {}));
  BOOST_REQUIRE(on.iommu.unmap({16 * page, 8 * page}, {}));
  BOOST_TEST(on.model.pinned_pages() == table_pages + 8);
  BOOST_REQUIRE(on.iommu.unmap({32 * page, 2 * page}, {}));
  BOOST_TEST(on.model.pinned_pages() == table_pages);
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_memory_that_meets_registered_memory_partly_is_refused) {
  v2 on;
  BOOST_REQUIRE(on.iommu.map(pages_at(0, 8)));
  BOOST_TEST(says(map_fails(on, pages_at(16 * page, 8, 4), EINVAL), "meets other memory that this process has registered"));
  BOOST_TEST(on.iommu.map(pages_at(16 * page, 8, 8)).has_value());
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_over_the_limit_of_locked_memory_leaves_nothing) {
  v2 on(platform(true, table_pages + 8));
  const auto failure = map_fails(on, pages_at(0, 9), ENOMEM);
  BOOST_TEST(says(failure, "ulimit -l"));
  BOOST_TEST(says(map_fails(on, pages_at(far, 8), ENOMEM), "what was prepared for it was taken back"));
  BOOST_REQUIRE(on.iommu.map(pages_at(0, 8)));
  map_fails(on, pages_at(16 * page, 1, 8), ENOMEM);
  BOOST_TEST(says(map_fails(on, pages_at(far, 1), ENOMEM), "a window of 4096 bytes"));
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_that_may_not_lock_the_table_of_the_default_window_leaves_nothing) {
  machine on(true, platform(true, table_pages));
  BOOST_REQUIRE(on.iommu.begin());
  BOOST_TEST(says(map_fails(on, pages_at(0, 1), ENOMEM), "the default window's table is over the locked-memory limit"));
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_memory_that_is_not_there_leaves_nothing) {
  v2 on;
  const auto wild = nowhere(far);
  BOOST_TEST(says(map_fails(on, wild, EFAULT), "cannot be pinned for writing"));
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_memory_left_registered_is_not_used_for_another_mapping) {
  v2 on;
  const auto before = on.now();
  on.files.fail_randomly(1, 1, {EIO}, "VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY");
  BOOST_REQUIRE(on.iommu.map(pages_at(0, 4)));
  BOOST_TEST(on.iommu.unmap({0, 4 * page}, {}).value() == 4 * page);
  BOOST_REQUIRE(on.warnings.size() == 1U);
  BOOST_TEST(says(on.warnings[0], "devices do not reach it any more, but its memory or its window stays"));
  BOOST_TEST(on.model.mapping_count() == 0U);
  map_fails(on, pages_at(16 * page, 4), EBUSY);
  map_fails(on, pages_at(16 * page, 1), EINVAL);
  on.files.fail_none();
  BOOST_TEST(on.iommu.map(pages_at(16 * page, 1)).has_value());
  BOOST_TEST(on.iommu.unmap({0, 32 * page}, {}).value() == page);
  BOOST_TEST(on.now() == before);
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_memory_left_registered_does_not_fail_the_unmap_of_other_memory) {
  v2 on;
  const auto before = on.now();
  BOOST_REQUIRE(on.iommu.map(pages_at(0, 4)));
  BOOST_REQUIRE(on.iommu.map(pages_at(16 * page, 4, 8)));
  BOOST_REQUIRE(on.iommu.map(pages_at(32 * page, 4, 8)));
  on.files.fail_randomly(1, 1, {EIO}, "VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY");
  BOOST_TEST(on.iommu.unmap({0, 4 * page}, {}).value() == 4 * page);
  BOOST_TEST(on.iommu.unmap({16 * page, 4 * page}, {}).value() == 4 * page);
  on.files.fail_none();
  BOOST_TEST(on.iommu.unmap({0, 64 * page}, {}).value() == 4 * page);
  BOOST_TEST(on.now() == before);
}

// --- version 2: windows ---

// covers R12
BOOST_AUTO_TEST_CASE(v2_a_map_outside_every_window_makes_one_and_the_unmap_removes_it) {
  v2 on;
  const auto before = on.now();
  BOOST_REQUIRE(on.iommu.map(pages_at(far, 3)));
  BOOST_REQUIRE(on.windows.asked.size() == 1U);
  BOOST_TEST(on.windows.asked[0].page_shift == 12U);
  BOOST_TEST(on.windows.asked[0].window_size == 4 * page);
  BOOST_TEST(on.windows.asked[0].levels == 1U);
  BOOST_TEST(on.model.mappings().at(0).iova == far);
  BOOST_TEST(on.model.pinned_pages() == table_pages + 1 + 3);
  BOOST_TEST(on.iommu.unmap({far, 3 * page}, {}).value() == 3 * page);
  BOOST_TEST(on.now() == before);
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_a_window_that_begins_before_the_mapping_is_made_again_as_large_as_it_must_be) {
  v2 on;
  const auto before = on.now();
  BOOST_REQUIRE(on.iommu.map(pages_at(far + 8 * page, 2)));
  BOOST_REQUIRE(on.windows.asked.size() == 2U);
  BOOST_TEST(on.windows.asked[0].window_size == 2 * page);
  BOOST_TEST(on.windows.asked[1].window_size == 16 * page);
  BOOST_REQUIRE(on.iommu.unmap({far, 16 * page}, {}));
  BOOST_TEST(on.now() == before);
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_several_mappings_share_a_window_that_goes_with_the_last) {
  v2 on;
  const auto before = on.now();
  BOOST_REQUIRE(on.iommu.map(pages_at(far + 15 * page, 1)));
  BOOST_REQUIRE(on.iommu.map(pages_at(far, 4, 1)));
  BOOST_REQUIRE(on.iommu.map(pages_at(0, 1, 5)));
  BOOST_TEST(on.windows.asked.size() == 2U);
  BOOST_TEST(on.iommu.unmap({far + 15 * page, page}, {}).value() == page);
  BOOST_REQUIRE(on.iommu.map(pages_at(far + 14 * page, 1, 6)));
  BOOST_TEST(on.windows.asked.size() == 2U);
  BOOST_TEST(on.iommu.unmap({0, ~std::uint64_t{0}}, {}).value() == 6 * page);
  BOOST_TEST(on.now() == before);
}

// covers R12 R21
BOOST_AUTO_TEST_CASE(v2_a_mapping_before_the_window_that_the_platform_gives_is_refused_with_that_window) {
  v2 on;
  const auto failure = map_fails(on, pages_at(1ULL << 40, 2), ENOSPC);
  BOOST_TEST(says(failure, "would give is [0x800000000000000, +0x2000)"));
  BOOST_TEST(says(failure, "the default one is [0x0, +0x80000000)"));
  map_fails(on, pages_at(window_bytes - page, 2), ENOSPC);  // half in the default window
  BOOST_TEST(on.windows.asked.size() == 2U);
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_a_window_larger_than_any_can_be_is_refused) {
  v2 on;
  constexpr std::uint64_t half = 1ULL << 63;
  map_fails(on, {{page, half + page}, memory.data(), true}, ENOSPC);
  BOOST_TEST(on.windows.asked.empty());
  map_fails(on, pages_at(half + far, 1), ENOSPC);
  BOOST_TEST(on.windows.asked.size() == 1U);
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_a_window_more_than_the_platform_has_is_refused) {
  v2 on;
  BOOST_REQUIRE(on.iommu.map(pages_at(far, 1)));
  BOOST_TEST(says(map_fails(on, pages_at(far + page, 1, 1), ENOSPC), "all the windows the platform gives it"));
  BOOST_TEST(on.windows.asked.size() == 2U);
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_a_table_takes_more_levels_only_when_the_kernel_refuses_one) {
  v2 on;
  on.windows.refusals = {-ENOMEM, -EINVAL};
  BOOST_REQUIRE(on.iommu.map(pages_at(far, 1)));
  BOOST_REQUIRE(on.windows.asked.size() == 3U);
  for (std::uint32_t i = 0; i < 3; ++i) BOOST_TEST(on.windows.asked[i].levels == i + 1);
  BOOST_REQUIRE(on.iommu.unmap({far, page}, {}));
  on.windows.asked.clear();
  on.windows.refusals = {-EINVAL, -ENOMEM, -EINVAL, -EINVAL, -EINVAL};
  BOOST_TEST(says(map_fails(on, pages_at(far, 1), ENOMEM), "no memory for its table"));
  BOOST_TEST(on.windows.asked.size() == 5U);
}

// covers R12: with pages of 64 KiB and more, ranges are multiples of that
BOOST_AUTO_TEST_CASE(v2_windows_take_the_smallest_page_the_platform_tells) {
  v2 on;
  on.windows.retell = [](vfio_iommu_spapr_tce_info& told) { told.ddw.pgsizes = 0x1010200; };
  BOOST_TEST(on.iommu.read_info().value().page_sizes == 0x1010000U);
  map_fails(on, pages_at(far, 1), EINVAL);
  map_fails(on, pages_at(0, 16, 1), EINVAL);
  BOOST_REQUIRE(on.iommu.map(pages_at(far, 32)));
  BOOST_TEST(on.windows.asked[0].page_shift == 16U);
  BOOST_TEST(on.windows.asked[0].window_size == 32 * page);
  BOOST_TEST(on.iommu.map(pages_at(0, 32)).has_value());
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_a_platform_that_makes_no_windows_has_the_default_one) {
  v2 on;
  on.windows.retell = [](vfio_iommu_spapr_tce_info& told) { told.flags = 0; };
  BOOST_TEST(on.iommu.read_info().value().page_sizes == page);
  BOOST_TEST(says(map_fails(on, pages_at(far, 1), ENOSPC), "the default one is [0x0, +0x80000000)"));
  BOOST_TEST(on.windows.asked.empty());
  BOOST_TEST(on.iommu.map(pages_at(0, 1)).has_value());
}

// covers R12: the groups' tables may differ, and what is behind a table's end the kernel does not check
BOOST_AUTO_TEST_CASE(v2_the_default_window_is_never_taken_for_larger_than_a_group_told) {
  v2 on;
  const auto wide = on.now();
  BOOST_REQUIRE(on.iommu.map(pages_at(32 * page, 1)));
  on.windows.retell = [](vfio_iommu_spapr_tce_info& told) { told.dma32_window_size = 16 * page; };
  BOOST_REQUIRE(on.iommu.read_info());
  map_fails(on, pages_at(15 * page, 2, 1), ENOSPC);
  BOOST_TEST(on.iommu.map(pages_at(14 * page, 2, 1)).has_value());
  on.windows.retell = nullptr;
  BOOST_REQUIRE(on.iommu.read_info());
  map_fails(on, pages_at(16 * page, 2, 3), ENOSPC);
  BOOST_TEST(on.iommu.unmap({0, 64 * page}, {}).value() == 3 * page);
  BOOST_TEST(on.now() == wide);
}

// --- version 2: failures ---

// covers R12
BOOST_AUTO_TEST_CASE(v2_whichever_call_of_making_a_window_fails_nothing_is_left_and_it_succeeds_then) {
  v2 on;
  BOOST_REQUIRE(on.iommu.map(pages_at(0, 2, 100)));
  sweep_map(on, pages_at(far, 8));
  sweep_map(on, pages_at(far + 8 * page, 8));
  sweep_map(on, pages_at(far + 8 * page, 2, 100));  // of memory that is registered
  BOOST_TEST(on.model.mapping_count() == 1U);
}

// covers R12
BOOST_AUTO_TEST_CASE(v2_whichever_call_of_unmapping_windows_fails_the_same_unmap_does_the_rest) {
  v2 on;
  sweep_unmap(on, {pages_at(0, 2), pages_at(far + 8 * page, 8, 2), pages_at(far, 8, 2)}, {0, far + 16 * page});
}

// covers R12: failures at random, of taking back too
BOOST_AUTO_TEST_CASE(v2_whatever_fails_when_it_is_over_nothing_is_left) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      v2 on;
      const auto before = on.now();
      std::mt19937_64 random(seed);
      std::map<std::uint64_t, mapping> sure;  // mapped, and no unmap of it was tried
      on.files.fail_randomly(seed, 0.3, {EIO, ENOMEM});
      for (int step = 0; step < 200; ++step) {
        const auto slot = random() % 16;
        const auto what = pages_at((slot % 2 != 0 ? far : 0) + slot * 8 * page, 4 + slot % 3, slot / 4 * 8);
        if (random() % 2 != 0) {
          if (on.iommu.map(what)) sure[what.at.iova] = what;
        } else if (sure.erase(what.at.iova); random() % 4 != 0) {
          static_cast<void>(on.iommu.unmap(what.at, {}));
        } else {
          sure.clear();
          static_cast<void>(on.iommu.unmap({0, ~std::uint64_t{0}}, {}));
        }
      }
      on.files.fail_none();
      const auto there = on.model.mappings();
      for (const auto& one : sure) {
        const mapping& what = one.second;
        const auto found = std::find_if(there.begin(), there.end(), [&](const kernel::model_mapping& extent) {
          return extent.iova == what.at.iova && extent.size == what.at.size;
        });
        BOOST_REQUIRE((found != there.end()));
        BOOST_TEST(found->vaddr == reinterpret_cast<std::uintptr_t>(what.host));
      }
      BOOST_TEST(on.iommu.unmap({0, ~std::uint64_t{0}}, {}).has_value());
      BOOST_TEST(on.now() == before);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
