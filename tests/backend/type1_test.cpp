// SPDX-License-Identifier: Apache-2.0
//
// The type1 backend on the model: what it asks, what it tells, and that a failure leaves everything as it was.

#include <linux/vfio.h>
#include <tidemark/kernel_faulty.hpp>
#include <tidemark/kernel_model.hpp>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <string>
#include <vector>

#include "backend/driven_container.hpp"
#include "kernel/test_device.h"
#include "support/ruled_kernel.hpp"

using namespace tidemark;
using type1 = tests::driven_container;
using tests::refuses;
using tests::ruled_kernel;

namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t pages_max = 256;
alignas(page) std::array<std::byte, pages_max * page> memory;

mapping pages_at(std::uint64_t iova, std::uint64_t pages) { return {{iova, pages * page}, memory.data(), true}; }

bool says(const error& failure, const std::string& text) { return failure.message().find(text) != std::string::npos; }

/// A kernel that answers open() of a group with this errno.
class closed_group final : public kernel::files {
 public:
  explicit closed_group(int errno_value) : errno_(errno_value) {}
  int open(const char*, int) noexcept override { return -errno_; }
  int close(int) noexcept override { return 0; }
  int ioctl(int, unsigned long, std::uintptr_t) noexcept override { return -ENOTTY; }
  ssize_t read(int, void*, std::size_t) noexcept override { return -EINVAL; }
  ssize_t write(int, const void*, std::size_t) noexcept override { return -EINVAL; }
  ssize_t pread(int, void*, std::size_t, std::uint64_t) noexcept override { return -EINVAL; }
  ssize_t pwrite(int, const void*, std::size_t, std::uint64_t) noexcept override { return -EINVAL; }
  ssize_t readlink(const char*, char*, std::size_t) noexcept override { return -ENOENT; }

 private:
  int errno_;
};

void nothing_is_open(const kernel::model& model) {
  BOOST_TEST(model.open_descriptors() == 0U);
  BOOST_TEST(model.live_containers() == 0U);
  BOOST_TEST(model.mapping_count() == 0U);
  BOOST_TEST(model.pinned_pages() == 0U);
}

error connect_fails(kernel::files& files, unsigned group = 0) {
  type1 backend(files);
  const auto connected = backend.connect(group);
  BOOST_REQUIRE(!connected);
  return connected.error();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(type1_backend)

// covers R3 R5 R6
BOOST_AUTO_TEST_CASE(connecting_gives_what_the_container_offers) {
  kernel::model model;
  type1 backend(model);
  const auto info = backend.connect(2).value();
  BOOST_TEST(info.page_sizes == 0x40201000U);
  BOOST_TEST(info.windows.size() == 2U);
  BOOST_TEST(info.can_track_dirty);
  BOOST_TEST(backend.connect(2).value().mappings_available == info.mappings_available);
  BOOST_TEST(model.live_containers() == 1U);
}

// covers R3
BOOST_AUTO_TEST_CASE(a_second_group_shares_the_container_and_narrows_its_windows) {
  kernel::model model;
  type1 backend(model);
  BOOST_TEST(backend.connect(0).value().windows.empty());
  BOOST_TEST(backend.connect(2).value().windows.size() == 2U);
  BOOST_TEST(model.live_containers() == 1U);
  BOOST_TEST(model.open_descriptors() == 3U);
}

// covers R3: and it leaves the group that was there alone
BOOST_AUTO_TEST_CASE(a_second_group_that_fails_at_any_call_leaves_the_first_as_it_was) {
  for (std::uint64_t n = 1;; ++n) {
    kernel::model model;
    kernel::faulty files(model);
    type1 backend(files);
    BOOST_REQUIRE(backend.connect(0));
    BOOST_REQUIRE(backend.map(pages_at(0, 1)));
    files.fail_nth(n, EIO);
    const auto second = backend.connect(2);
    if (files.injected() == 0) break;
    BOOST_TEST(!second.has_value());
    BOOST_TEST(model.open_descriptors() == 2U);
    BOOST_TEST(model.mapping_count() == 1U);
    BOOST_TEST(model.pinned_pages() == 0U);
    BOOST_TEST(backend.connect(2).has_value());
  }
}

// covers R2 R3: every call of a connect, of opening a device and of a map fails once
BOOST_AUTO_TEST_CASE(whatever_call_fails_nothing_is_left_behind) {
  for (std::uint64_t n = 1;; ++n) {
    BOOST_TEST_CONTEXT("call " << n) {
      kernel::model model;
      kernel::faulty files(model);
      files.fail_nth(n, EIO);
      bool all = false;
      {
        type1 backend(files);
        if (!backend.connect(0)) {
          nothing_is_open(model);
        } else if (const auto device = backend.open_device(0, "tidemark-test.0"); !device) {
          BOOST_TEST(model.open_descriptors() == 2U);
        } else if (!backend.map(pages_at(0, 1))) {
          BOOST_TEST(model.mapping_count() == 0U);
        } else {
          all = true;
        }
        if (all && files.injected() == 0) return;  // past the last call
      }
      nothing_is_open(model);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_failed_connect_can_be_repeated) {
  kernel::model model;
  ruled_kernel files(model);
  type1 backend(files);
  files.set_rule(refuses(VFIO_SET_IOMMU, EIO));
  BOOST_TEST(backend.connect(0).error().code.value() == EIO);
  files.set_rule({});
  BOOST_TEST(backend.connect(0).has_value());
}

// covers R3
BOOST_AUTO_TEST_CASE(another_api_version_is_refused_with_both_numbers) {
  kernel::model model;
  ruled_kernel files(model);
  files.set_rule([](unsigned long request, std::uintptr_t) {
    return request == VFIO_GET_API_VERSION ? std::optional(7) : std::nullopt;
  });
  const auto failure = connect_fails(files);
  BOOST_TEST(failure.code == make_error_code(errc::api_version));
  BOOST_TEST(says(failure, "7"));
  BOOST_TEST(says(failure, std::to_string(VFIO_API_VERSION)));
  nothing_is_open(model);
}

// covers R3
BOOST_AUTO_TEST_CASE(a_kernel_that_does_not_tell_its_version_is_reported_with_its_answer) {
  kernel::model model;
  ruled_kernel files(model);
  files.set_rule(refuses(VFIO_GET_API_VERSION, EPERM));
  BOOST_TEST(connect_fails(files).code.value() == EPERM);
}

// covers R4
BOOST_AUTO_TEST_CASE(no_type_that_is_offered_is_no_iommu_model) {
  kernel::model model;
  ruled_kernel files(model);
  files.set_rule([](unsigned long request, std::uintptr_t) {
    return request == VFIO_CHECK_EXTENSION ? std::optional(0) : std::nullopt;
  });
  const auto failure = connect_fails(files);
  BOOST_TEST(failure.code == make_error_code(errc::no_iommu_model));
  BOOST_TEST(says(failure, "no available IOMMU models"));
  nothing_is_open(model);
}

// covers R4
BOOST_AUTO_TEST_CASE(a_type_that_is_offered_and_refused_is_final) {
  kernel::model model;
  ruled_kernel files(model);
  std::vector<std::uintptr_t> tried;
  files.set_rule([&](unsigned long request, std::uintptr_t type) -> std::optional<int> {
    if (request != VFIO_SET_IOMMU) return std::nullopt;
    tried.push_back(type);
    return -EPERM;
  });
  BOOST_TEST(connect_fails(files).code.value() == EPERM);
  BOOST_TEST(tried == std::vector<std::uintptr_t>{VFIO_TYPE1v2_IOMMU}, boost::test_tools::per_element());
}

// covers R4 R25: type1 without v2 has no dirty tracking, whatever its information says
BOOST_AUTO_TEST_CASE(without_v2_the_container_is_v1_and_cannot_track) {
  kernel::model model;
  ruled_kernel files(model);
  files.set_rule([](unsigned long request, std::uintptr_t type) {
    return request == VFIO_CHECK_EXTENSION && type == VFIO_TYPE1v2_IOMMU ? std::optional(0) : std::nullopt;
  });
  type1 backend(files);
  BOOST_TEST(!backend.connect(0).value().can_track_dirty);
  BOOST_TEST(backend.set_dirty_tracking(true).error().code == make_error_code(errc::dirty_not_supported));
  BOOST_TEST(backend.map(pages_at(0, 4)).has_value());
  BOOST_TEST(backend.unmap({0, page}, {}).value() == 4 * page);  // as v1 does: all of a mapping whose start is covered
}

// covers R2
BOOST_AUTO_TEST_CASE(a_group_that_is_not_viable_is_refused_with_the_hint) {
  kernel::model_options options;
  options.groups[2].viable = false;
  kernel::model model(options);
  const auto failure = connect_fails(model, 2);
  BOOST_TEST(failure.code == make_error_code(errc::group_not_viable));
  BOOST_TEST(says(failure, "every device of group 2 must be bound to its vfio bus driver"));
  nothing_is_open(model);
}

// covers R2
BOOST_AUTO_TEST_CASE(a_group_in_use_is_refused) {
  kernel::model model;
  type1 first(model);
  BOOST_REQUIRE(first.connect(0));
  const auto failure = connect_fails(model);
  BOOST_TEST(failure.code.value() == EBUSY);
  BOOST_TEST(says(failure, "group 0 is in use by another container or process"));
  BOOST_TEST(model.open_descriptors() == 2U);
}

// covers R2
BOOST_AUTO_TEST_CASE(a_group_file_that_does_not_open_names_cause_and_cure) {
  kernel::model model;
  const auto missing = connect_fails(model, 99);
  BOOST_TEST(missing.code.value() == ENOENT);
  BOOST_TEST(says(missing, "/dev/vfio/99 is not there"));
  for (const int errno_value : {EACCES, EPERM}) {
    closed_group files(errno_value);
    const auto failure = connect_fails(files);
    BOOST_TEST(failure.code.value() == errno_value);
    BOOST_TEST(says(failure, "no permission on /dev/vfio/0: run as root, or give the file to your user (chown)"));
  }
}

// covers R5
BOOST_AUTO_TEST_CASE(the_information_is_asked_again_while_argsz_grows) {
  kernel::model model;
  ruled_kernel files(model);
  std::vector<std::uint32_t> asked;
  files.set_rule([&](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
    if (request != VFIO_IOMMU_GET_INFO) return std::nullopt;
    auto* head = reinterpret_cast<vfio_iommu_type1_info*>(argument);
    asked.push_back(head->argsz);
    if (head->argsz >= 500) return std::nullopt;
    head->argsz += 100;
    return 0;
  });
  type1 backend(files);
  BOOST_TEST(backend.connect(0).value().can_track_dirty);
  BOOST_TEST(asked == (std::vector<std::uint32_t>{24, 124, 224, 324, 424, 524}), boost::test_tools::per_element());
}

// covers R5
BOOST_AUTO_TEST_CASE(an_argsz_beyond_reason_is_an_error) {
  kernel::model model;
  ruled_kernel files(model);
  files.set_rule([](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
    if (request != VFIO_IOMMU_GET_INFO) return std::nullopt;
    reinterpret_cast<vfio_iommu_type1_info*>(argument)->argsz = ~0U;
    return 0;
  });
  BOOST_TEST(connect_fails(files).code == make_error_code(errc::malformed_capability));
  nothing_is_open(model);
}

// covers R11
BOOST_AUTO_TEST_CASE(a_device_is_opened_by_its_name_in_a_connected_group) {
  kernel::model model;
  type1 backend(model);
  BOOST_TEST(backend.open_device(0, "tidemark-test.0").error().code == make_error_code(errc::not_attached));
  BOOST_REQUIRE(backend.connect(0));
  const auto refused = backend.open_device(0, "tidemark-test.1");
  BOOST_TEST(refused.error().code.value() == ENODEV);
  BOOST_TEST(says(refused.error(), "all devices of the group must be bound to a vfio driver or pci-stub"));
  const auto device = backend.open_device(0, "tidemark-test.0");
  BOOST_TEST(device.value().name() == "tidemark-test.0");
  BOOST_TEST(device.value().info().flags == std::uint32_t{VFIO_DEVICE_FLAGS_RESET});
}

// covers R10: a device that is still open keeps its group, the kernel says, and with it the mappings
BOOST_AUTO_TEST_CASE(a_device_that_outlives_the_backend_holds_the_container_until_it_is_closed) {
  kernel::model model;
  {
    std::vector<device> kept;
    {
      type1 backend(model);
      BOOST_REQUIRE(backend.connect(0));
      BOOST_REQUIRE(backend.map(pages_at(0, 1)));
      kept.push_back(backend.open_device(0, "tidemark-test.0").value());
    }
    BOOST_TEST(model.open_descriptors() == 1U);
    BOOST_TEST(model.mapping_count() == 1U);
  }
  nothing_is_open(model);
}

// covers R14
BOOST_AUTO_TEST_CASE(a_map_reads_always_and_writes_unless_it_is_read_only) {
  kernel::model model;
  type1 backend(model);
  BOOST_REQUIRE(backend.connect(0));
  auto read_only = pages_at(0, 1);
  read_only.writable = false;
  BOOST_REQUIRE(backend.map(read_only));
  BOOST_REQUIRE(backend.map(pages_at(page, 2)));
  const auto held = model.mappings();
  BOOST_REQUIRE(held.size() == 2U);
  BOOST_TEST((held[0].readable && !held[0].writable && held[0].size == page));
  BOOST_TEST((held[1].readable && held[1].writable && held[1].size == 2 * page));
  BOOST_TEST(held[1].vaddr == reinterpret_cast<std::uintptr_t>(memory.data()));
}

// covers R14
BOOST_AUTO_TEST_CASE(a_map_that_fails_says_what_and_why) {
  kernel::model_options options;
  options.mapping_budget = 1;
  options.memlock_pages = 4;
  kernel::model model(options);
  type1 backend(model);
  BOOST_REQUIRE(backend.connect(2));
  const auto failure = [&](const mapping& what, int errno_value) {
    const auto mapped = backend.map(what);
    BOOST_REQUIRE(!mapped);
    BOOST_TEST(mapped.error().code.value() == errno_value);
    BOOST_TEST((mapped.error().range == what.at));
    return mapped.error();
  };
  BOOST_TEST(says(failure(pages_at(0, 5), ENOMEM), "ulimit -l"));
  BOOST_TEST(says(failure(pages_at(1, 1), EINVAL), "misaligned"));
  BOOST_REQUIRE(backend.map(pages_at(0, 1)));
  BOOST_TEST(says(failure(pages_at(0, 1), EEXIST), "already there"));
  BOOST_TEST(says(failure(pages_at(page, 1), ENOSPC), "dma_entry_limit"));
  BOOST_TEST(model.mapping_count() == 1U);
}

// covers R18
BOOST_AUTO_TEST_CASE(an_unmap_gives_the_bytes_and_never_cuts_a_mapping) {
  kernel::model model;
  type1 backend(model);
  BOOST_REQUIRE(backend.connect(0));
  BOOST_REQUIRE(backend.map(pages_at(0, 4)));
  BOOST_TEST(backend.unmap({0, page}, {}).error().code.value() == EINVAL);
  BOOST_TEST(backend.unmap({0, 4 * page}, {}).value() == 4 * page);
  BOOST_TEST(backend.unmap({0, 4 * page}, {}).value() == 0U);
}

// covers R17
BOOST_AUTO_TEST_CASE(an_unmap_while_tracking_brings_what_devices_dirtied) {
  kernel::model model;
  type1 backend(model);
  BOOST_REQUIRE(backend.connect(0));
  BOOST_REQUIRE(backend.map(pages_at(0, 70)));
  const auto device = backend.open_device(0, "tidemark-test.0");
  BOOST_REQUIRE(backend.set_dirty_tracking(true));
  const tidemark_test_doorbell bell{69 * page, 8, 1};
  BOOST_REQUIRE(model.write(device.value().file(), &bell, sizeof bell) == sizeof bell);
  std::vector<std::uint64_t> dirty(3, ~std::uint64_t{0});  // one word more than needed, and none of them clean
  BOOST_TEST(backend.unmap({0, 70 * page}, dirty).value() == 70 * page);
  BOOST_TEST(dirty == (std::vector<std::uint64_t>{0, 1U << 5, 0}), boost::test_tools::per_element());
}

// covers R26
BOOST_AUTO_TEST_CASE(a_query_starts_from_zeroed_words_and_the_kernel_forgets) {
  kernel::model model;
  type1 backend(model);
  BOOST_REQUIRE(backend.connect(0));
  BOOST_REQUIRE(backend.map(pages_at(0, 2)));
  const auto device = backend.open_device(0, "tidemark-test.0");
  BOOST_REQUIRE(backend.set_dirty_tracking(true));
  const tidemark_test_doorbell bell{page, 8, 1};
  BOOST_REQUIRE(model.write(device.value().file(), &bell, sizeof bell) == sizeof bell);
  std::vector<std::uint64_t> dirty(1, ~std::uint64_t{0});
  BOOST_REQUIRE(backend.query_dirty({0, 2 * page}, dirty));
  BOOST_TEST(dirty[0] == 2U);
  BOOST_REQUIRE(backend.query_dirty({0, 2 * page}, dirty));
  BOOST_TEST(dirty[0] == 0U);
  BOOST_TEST(backend.query_dirty({0, page}, dirty).error().code.value() == EINVAL);  // cuts the mapping
}

// covers R17 R26
BOOST_AUTO_TEST_CASE(a_bitmap_over_the_largest_is_refused_before_the_ioctl) {
  kernel::model_options options;
  options.bitmap_bytes_max = 8;
  kernel::model model(options);
  ruled_kernel files(model);
  type1 backend(files);
  BOOST_REQUIRE(backend.connect(0));
  BOOST_REQUIRE(backend.map(pages_at(0, 65)));
  std::vector<std::uint64_t> dirty(2);
  const auto before = files.ioctls();
  const auto unmapped = backend.unmap({0, 65 * page}, dirty);
  BOOST_TEST(unmapped.error().code == make_error_code(errc::bitmap_too_large));
  BOOST_TEST(says(unmapped.error(), "map the memory in smaller regions"));
  BOOST_TEST(backend.query_dirty({0, 65 * page}, dirty).error().code == make_error_code(errc::bitmap_too_large));
  BOOST_TEST(files.ioctls() == before);
  BOOST_TEST(model.mapping_count() == 1U);
}

BOOST_AUTO_TEST_CASE(a_bitmap_too_small_for_the_range_is_refused_before_the_ioctl) {
  kernel::model model;
  ruled_kernel files(model);
  type1 backend(files);
  BOOST_REQUIRE(backend.connect(0));
  BOOST_REQUIRE(backend.map(pages_at(0, 65)));
  std::vector<std::uint64_t> dirty(1);
  const auto before = files.ioctls();
  BOOST_TEST(backend.unmap({0, 65 * page}, dirty).error().code.value() == EINVAL);
  BOOST_TEST(backend.query_dirty({0, 65 * page}, dirty).error().code.value() == EINVAL);
  BOOST_TEST(files.ioctls() == before);
}

// covers R25
BOOST_AUTO_TEST_CASE(a_kernel_without_tracking_says_so) {
  kernel::model_options options;
  options.version = {5, 7};
  kernel::model model(options);
  type1 backend(model);
  BOOST_TEST(!backend.connect(0).value().can_track_dirty);
  std::vector<std::uint64_t> dirty(1);
  for (const auto& failure : {backend.set_dirty_tracking(true).error(), backend.set_dirty_tracking(false).error(),
                              backend.query_dirty({0, page}, dirty).error(), backend.unmap({0, page}, dirty).error()})
    BOOST_TEST(failure.code == make_error_code(errc::dirty_not_supported));
}

// covers R24: pages of an emulated IOMMU are pinned as its devices ask, from addresses that must be there
BOOST_AUTO_TEST_CASE(addresses_can_be_released_while_every_group_has_an_iommu) {
  kernel::model model;
  type1 backend(model);
  BOOST_TEST(backend.connect(2).value().can_release_addresses);
  BOOST_TEST(!backend.connect(0).value().can_release_addresses);
  BOOST_REQUIRE(backend.disconnect(0));
  BOOST_TEST(backend.info().value().can_release_addresses);
  kernel::model_options options;
  options.version = {5, 11};
  kernel::model old(options);
  BOOST_TEST(!type1(old).connect(2).value().can_release_addresses);
}

// covers R24
BOOST_AUTO_TEST_CASE(a_kernel_that_does_not_say_whether_addresses_can_be_released_gets_no_container) {
  kernel::model model;
  ruled_kernel files(model);
  files.set_rule([](unsigned long request, std::uintptr_t argument) {
    return request == VFIO_CHECK_EXTENSION && argument == VFIO_UPDATE_VADDR ? std::optional(-EIO) : std::nullopt;
  });
  BOOST_TEST(says(connect_fails(files, 2), "VFIO_CHECK_EXTENSION of VFIO_UPDATE_VADDR"));
  nothing_is_open(model);
}

// covers R24
BOOST_AUTO_TEST_CASE(addresses_go_and_come_with_the_flags_of_the_kernel) {
  kernel::model model;
  type1 backend(model);
  BOOST_REQUIRE(backend.connect(2));
  BOOST_REQUIRE(backend.map(pages_at(0, 4)));
  BOOST_REQUIRE(backend.map(pages_at(8 * page, 2)));
  auto& driver = **backend.driver(operation::release_addresses, {});
  BOOST_TEST(driver.release_addresses({0, 8 * page}).value() == 4 * page);
  BOOST_TEST(driver.release_addresses({}).error().code.value() == EINVAL);  // all or none, and one is already
  const auto refused = driver.renew_address({0, page}, memory.data()).error();
  BOOST_TEST(refused.code.value() == EINVAL);
  BOOST_TEST(says(refused, "renew host addresses [0x0, +0x1000): Invalid argument: VFIO_DMA_MAP_FLAG_VADDR"));
  BOOST_TEST(driver.renew_address({0, 4 * page}, memory.data() + page).has_value());
  BOOST_TEST(driver.release_addresses({}).value() == 6 * page);
  BOOST_TEST(model.mappings()[0].vaddr == reinterpret_cast<std::uintptr_t>(memory.data() + page));
}

BOOST_AUTO_TEST_CASE(before_a_group_is_connected_every_request_is_refused) {
  kernel::model model;
  type1 backend(model);
  std::vector<std::uint64_t> dirty(1);
  BOOST_TEST(backend.map(pages_at(0, 1)).error().code == make_error_code(errc::not_attached));
  BOOST_TEST(backend.unmap({0, page}, {}).error().code == make_error_code(errc::not_attached));
  BOOST_TEST(!backend.unmap({0, page}, dirty));
  BOOST_TEST(!backend.set_dirty_tracking(true));
  BOOST_TEST(!backend.query_dirty({0, page}, dirty));
}

BOOST_AUTO_TEST_SUITE_END()
