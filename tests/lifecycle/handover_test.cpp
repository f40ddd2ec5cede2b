// SPDX-License-Identifier: Apache-2.0
//
// Memory that moves while devices go on reaching it (R24). Runs in lifecycle_test, on the model and in the test guest on the
// real kernel, where QEMU's edu device shows by data that DMA never stops: before, in between and afterwards it reads what
// is written at the memory's present address, and what it writes is found there. The model shows that every page stays
// pinned.

#include <sys/mman.h>
#include <unistd.h>
#include <tidemark/container.hpp>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "conformance/edu_device.hpp"
#include "lifecycle/fixture.hpp"

namespace tidemark::lifecycle {
namespace {

constexpr std::uint64_t source_iova = 0x100000;
constexpr std::uint64_t target_iova = 0x300000;
constexpr std::uint64_t more_iova = 0x500000;

void* map_anew(int flags, int fd = -1) { return ::mmap(nullptr, page, PROT_READ | PROT_WRITE, flags, fd, 0); }

enum class kind { anonymous, file };

/// A page that can be had at another address. What was its address is nobody's then.
class movable_page {
 public:
  explicit movable_page(kind of) {
    if (of == kind::file) {
      file_ = ::memfd_create("movable", MFD_CLOEXEC);
      BOOST_REQUIRE(file_ >= 0);
      BOOST_REQUIRE(::ftruncate(file_, page) == 0);
    }
    at_ = file_ >= 0 ? map_anew(MAP_SHARED, file_) : map_anew(MAP_PRIVATE | MAP_ANONYMOUS);
    BOOST_REQUIRE(at_ != MAP_FAILED);
    fill(1);  // kernels before 6.2 pin the shared zero page for a mapping to read of memory that was never written
  }
  movable_page(const movable_page&) = delete;
  movable_page& operator=(const movable_page&) = delete;
  ~movable_page() {
    ::munmap(at_, page);
    if (left_ != nullptr) ::munmap(left_, page);
    if (next_ != nullptr) ::munmap(next_, page);
    if (file_ >= 0) ::close(file_);
  }

  std::uint8_t* data() const noexcept { return static_cast<std::uint8_t*>(at_); }

  /// Where it will be. In a file it can be seen there already.
  std::uint8_t* next() {
    if (next_ == nullptr) next_ = file_ >= 0 ? map_anew(MAP_SHARED, file_) : map_anew(MAP_PRIVATE | MAP_ANONYMOUS);
    BOOST_REQUIRE(next_ != MAP_FAILED);
    return static_cast<std::uint8_t*>(next_);
  }

  void move() {
    if (left_ != nullptr) ::munmap(left_, page);
    void* const to = next();
    if (file_ >= 0) {
      BOOST_REQUIRE(::munmap(at_, page) == 0);
    } else {
      BOOST_REQUIRE(::mremap(at_, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    }
    left_ = ::mmap(at_, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    BOOST_REQUIRE(left_ == at_);
    at_ = to;
    next_ = nullptr;
  }

  void fill(unsigned seed) {
    for (std::uint64_t i = 0; i < page; ++i) data()[i] = static_cast<std::uint8_t>(seed + i * 7 + i / 256);
  }

 private:
  int file_ = -1;
  void* at_ = nullptr;
  void* left_ = nullptr;  // nobody's
  void* next_ = nullptr;  // reserved
};

/// Memory that the edu device copies: from `source`, which it may only read, to `target`.
struct copied_memory : fixture {
  explicit copied_memory(kind memory) : source(memory), target(memory) {}

  /// Whether what is written at the source's present address arrives at the target's. On the model: whether both are pinned.
  bool reaches() {
    if (const auto* kernel_model = model()) {
      const auto all = kernel_model->mappings();
      return all.size() >= 2 && std::all_of(all.begin(), all.end(), [](const auto& one) { return one.pinned; });
    }
    source.fill(seed += 3);
    std::fill_n(target.data(), page, std::uint8_t{0});
    edu_dma->copy_in(source_iova);
    edu_dma->copy_out(target_iova);
    return std::equal(source.data(), source.data() + conformance::edu_device::copied, target.data());
  }
  /// Whether the device changes the target where it is not mapped any more.
  bool reaches_unmapped_target() {
    if (model()) return model()->mapping_count() > 1;
    target.fill(seed);
    const std::vector<std::uint8_t> before(target.data(), target.data() + page);
    edu_dma->copy_out(target_iova);
    return !std::equal(before.begin(), before.end(), target.data());
  }
  /// Pages pinned, as the kernel accounts them.
  std::uint64_t pinned() const { return held().pinned_kib * 1024 / page; }
  void move() {
    source.move();
    target.move();
  }

  movable_page source;
  movable_page target;
  std::optional<device> edu_file;
  std::optional<conformance::edu_device> edu_dma;  // on the real kernel
  unsigned seed = 1;
};

/// In a container by itself.
struct handover : copied_memory {
  explicit handover(kind memory = kind::anonymous) : copied_memory(memory) {
    here.emplace(space().get_executor(), around().kernel(), around().threads(), around().options());
    BOOST_REQUIRE(connect(groups().backed->number));
    auto opened = done<device>(
        [&](auto token) { here->async_open_device(groups().backed->number, groups().backed->device, std::move(token)); });
    BOOST_REQUIRE(opened);
    edu_file = *opened;
    if (!model()) edu_dma.emplace(edu_file->kernel(), edu_file->file());
    BOOST_REQUIRE(map(source_iova, source.data(), false));
    BOOST_REQUIRE(map(target_iova, target.data(), true));
  }
  ~handover() {
    kernel().clear();
    edu_file->close();
    here.reset();
    settle();
  }

  result<container_info> connect(unsigned group) {
    return done<container_info>([&](auto token) { here->async_connect(group, std::move(token)); });
  }
  result<void> disconnect(unsigned group) {
    return done<void>([&](auto token) { here->async_disconnect(group, std::move(token)); });
  }
  result<void> map(std::uint64_t iova, void* memory, bool writable) {
    return done<void>([&](auto token) { here->async_map({{iova, page}, memory, writable}, std::move(token)); });
  }
  result<std::uint64_t> unmap(std::uint64_t iova) {
    return done<std::uint64_t>([&](auto token) { here->async_unmap(iova_range{iova, page}, std::move(token)); });
  }
  result<void> release() {
    return done<void>([&](auto token) { here->async_release_addresses(std::move(token)); });
  }
  result<void> renew(std::vector<moved_memory> all) {
    return done<void>([&](auto token) { here->async_renew_addresses(std::move(all), std::move(token)); });
  }
  result<void> renew() { return renew({{{source_iova, page}, source.data()}, {{target_iova, page}, target.data()}}); }

  std::optional<container> here;
};

/// As RAM blocks of an address space.
struct moving_blocks : copied_memory {
  explicit moving_blocks(kind memory) : copied_memory(memory) {
    edu_file = attach(edu()).value();
    if (!model()) edu_dma.emplace(edu_file->kernel(), edu_file->file());
    const std::pair<movable_page*, std::uint64_t> shown[] = {{&source, source_iova}, {&target, target_iova}};
    for (const auto& [of, iova] : shown) {
      const auto block = space().add_block({"movable", as_bytes(of->data()), page});
      BOOST_REQUIRE(block);
      BOOST_REQUIRE(done<void>([&, of = of, iova = iova](auto token) {
        space().async_add({{iova, page}, *block, 0, of == &target}, std::move(token));
      }));
    }
  }

  ~moving_blocks() {
    kernel().clear();
    end_space();
  }

  static std::byte* as_bytes(std::uint8_t* at) { return static_cast<std::byte*>(static_cast<void*>(at)); }

  result<void> move_blocks(std::function<result<void>()> how) {
    return done<void>([&](auto token) {
      space().async_move_blocks({{1, as_bytes(source.next())}, {2, as_bytes(target.next())}}, std::move(how),
                                std::move(token));
    });
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(handovers)

// covers R24
BOOST_AUTO_TEST_CASE(r24_memory_moves_while_a_device_goes_on_reaching_it) {
  for (const auto memory : {kind::anonymous, kind::file}) {
    handover here(memory);
    BOOST_TEST(here.reaches());
    for (int again = 0; again < 2; ++again) {
      BOOST_REQUIRE(here.release());
      here.move();
      BOOST_TEST(here.reaches());
      BOOST_REQUIRE(here.renew());
      BOOST_TEST(here.reaches());
      BOOST_TEST(here.pinned() == 2U);
    }
    BOOST_TEST(here.unmap(target_iova).value() == page);
    BOOST_TEST(!here.reaches_unmapped_target());
    BOOST_TEST(here.unmap(source_iova).value() == page);
    BOOST_TEST(here.pinned() == 0U);
  }
}

// covers R24
BOOST_FIXTURE_TEST_CASE(r24_mappings_come_and_go_while_others_have_no_address, handover) {
  movable_page more(kind::anonymous);
  BOOST_REQUIRE(release());
  move();
  BOOST_TEST(unmap(target_iova).value() == page);
  BOOST_TEST(pinned() == 1U);
  BOOST_TEST(!reaches_unmapped_target());
  BOOST_TEST(map(target_iova, target.data(), true).has_value());
  BOOST_TEST(map(more_iova, more.data(), true).has_value());
  BOOST_TEST(reaches());
  BOOST_REQUIRE(renew({{{source_iova, page}, source.data()}}));
  BOOST_TEST(reaches());
  BOOST_TEST(pinned() == 3U);
}

// covers R24: every mapping's call in turn
BOOST_AUTO_TEST_CASE(r24_a_renewal_that_failed_half_way_is_finished_when_asked_again) {
  for (std::size_t n = 1; n <= 2; ++n) {
    handover here;
    BOOST_REQUIRE(here.release());
    here.move();
    here.kernel().fail_nth(n, EIO, "VFIO_IOMMU_MAP_DMA");
    const auto failed = failure_of(here.renew());
    BOOST_TEST(failed.code.value() == EIO);
    BOOST_TEST(failed.range.iova == (n == 1 ? source_iova : target_iova));
    BOOST_TEST(here.reaches());
    BOOST_TEST(here.renew().has_value());
    BOOST_TEST(here.reaches());
  }
}

// covers R24
BOOST_FIXTURE_TEST_CASE(r24_a_release_that_is_refused_leaves_every_address, handover) {
  kernel().fail_nth(1, EBUSY, "VFIO_IOMMU_UNMAP_DMA");
  BOOST_TEST(failure_of(release()).code.value() == EBUSY);
  kernel().clear();
  BOOST_TEST(renew().has_value());  // as is known
  BOOST_TEST(kernel().calls() == 0U);
  BOOST_TEST(reaches());
  BOOST_TEST(release().has_value());
  BOOST_TEST(release().has_value());
  BOOST_TEST(renew().has_value());
}

// covers R22 R24: a transaction that takes an unmap back maps from where the memory is now
BOOST_FIXTURE_TEST_CASE(r24_what_is_taken_back_is_mapped_from_its_new_address, handover) {
  const auto apply = [&] {
    return done<void>([&](auto token) {
      here->async_apply({iova_range{target_iova, page}, mapping{{more_iova, page}, source.data()}}, std::move(token));
    });
  };
  BOOST_REQUIRE(release());
  move();
  BOOST_TEST(failure_of(apply()).code == make_error_code(errc::addresses_released));
  BOOST_REQUIRE(renew());
  kernel().fail_nth(1, ENOMEM, "VFIO_IOMMU_MAP_DMA");
  const auto failed = failure_of(apply());
  BOOST_TEST(failed.code.value() == ENOMEM);
  BOOST_TEST(failed.undone == "the mappings are as before");
  BOOST_TEST(reaches());
  BOOST_TEST(pinned() == 2U);
}

// covers R24 R26
BOOST_FIXTURE_TEST_CASE(r24_what_is_dirtied_in_between_is_tracked, handover) {
  std::array<std::uint64_t, 1> dirty{};
  const auto is_dirty = [&] {
    const auto queried = done<void>([&](auto token) {
      here->async_query_dirty({target_iova, page}, dirty, std::move(token));
    });
    return queried && dirty[0] == 1;
  };
  BOOST_REQUIRE(done<void>([&](auto token) { here->async_start_dirty_tracking(std::move(token)); }));
  BOOST_REQUIRE(release());
  move();
  BOOST_TEST(reaches());
  BOOST_TEST(is_dirty());
  BOOST_REQUIRE(renew());
  BOOST_TEST(is_dirty());
  BOOST_TEST(unmap(target_iova).value() == page);
}

// covers R24: it is asked again when a group comes or goes
BOOST_FIXTURE_TEST_CASE(r24_a_group_with_an_emulated_iommu_forbids_it, handover) {
  const auto emulated_group = groups().emulated.at(0).number;
  const auto offered = connect(emulated_group);
  BOOST_REQUIRE(offered);
  BOOST_TEST(!offered->can_release_addresses);
  const auto refused = failure_of(release());
  BOOST_TEST(refused.code == make_error_code(errc::release_not_supported));
  BOOST_TEST(says(refused, "no group with an emulated IOMMU"));
  BOOST_REQUIRE(disconnect(emulated_group));
  BOOST_TEST(release().has_value());
  move();
  BOOST_TEST(renew().has_value());
  BOOST_TEST(reaches());
}

// covers R24: the kernel says EBUSY to a group that comes in between; it is not asked
BOOST_FIXTURE_TEST_CASE(r24_a_group_comes_when_every_mapping_has_its_address, handover) {
  BOOST_REQUIRE(release());
  for (const auto group : {groups().emulated.at(0).number, groups().pair->number})
    BOOST_TEST(failure_of(connect(group)).code == make_error_code(errc::addresses_released));
  move();
  BOOST_REQUIRE(renew());
  BOOST_TEST(connect(groups().pair->number).has_value());
  BOOST_TEST(reaches());
}

// covers R24
BOOST_AUTO_TEST_CASE(r24_ram_blocks_move_while_a_device_goes_on_reaching_them) {
  for (const auto memory : {kind::anonymous, kind::file}) {
    moving_blocks here(memory);
    BOOST_TEST(here.reaches());
    bool reached = false;
    const auto moved = here.move_blocks([&]() -> result<void> {
      here.move();
      reached = here.reaches();
      return {};
    });
    BOOST_REQUIRE_MESSAGE(moved.has_value(), moved.error().message());
    BOOST_TEST(reached);
    BOOST_TEST(here.reaches());
    BOOST_TEST(here.pinned() == 2U);
    BOOST_REQUIRE(here.remove(target_iova, 1));
    BOOST_TEST(!here.reaches_unmapped_target());
    BOOST_TEST(here.pinned() == 1U);
  }
}

// covers R24: what fails before the memory has moved leaves it where it was; behind it, asking again finishes it
BOOST_AUTO_TEST_CASE(r24_blocks_that_moved_half_way_move_when_asked_again) {
  moving_blocks here(kind::file);
  here.kernel().fail_nth(1, EIO, "VFIO_IOMMU_UNMAP_DMA");
  bool called = false;
  const auto move = [&]() -> result<void> { return called = true, result<void>{}; };
  BOOST_TEST(failure_of(here.move_blocks(move)).undone == "every mapping has its address");
  BOOST_TEST(!called);
  BOOST_TEST(failure_of(here.move_blocks([] { return kernel_error(operation::move_blocks, ENOMEM); })).undone ==
             "no block has moved");
  BOOST_TEST(here.reaches());
  here.kernel().fail_nth(2, EIO, "VFIO_IOMMU_MAP_DMA");
  const auto failed = failure_of(here.move_blocks(move));
  BOOST_TEST((failed.what == operation::renew_addresses));
  BOOST_TEST(says(failed, "1 below have their addresses, this one and 0 above have none"));
  BOOST_TEST(called);
  BOOST_TEST((failure_of(here.attach(here.emulated())).code == make_error_code(errc::addresses_released)));
  BOOST_TEST(here.reaches());
  BOOST_TEST(here.move_blocks({}).has_value());
  here.move();
  BOOST_TEST(here.reaches());
  BOOST_TEST(here.attach(here.emulated()).has_value());
  BOOST_TEST(here.reaches());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::lifecycle
