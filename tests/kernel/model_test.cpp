// SPDX-License-Identifier: Apache-2.0
//
// What is the model's own: its options, its facts, and the lifetimes of what it holds. What it answers to whom is
// tests/conformance.

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "kernel/test_device.h"
#include "vfio_calls.hpp"

using namespace tidemark;
using test::attached;
using test::memory;
using test::page;

BOOST_AUTO_TEST_SUITE(model)

// --- topology ---

BOOST_AUTO_TEST_CASE(default_groups_are_the_guests) {
  kernel::model model;
  for (const char* path : {"/dev/vfio/0", "/dev/vfio/1", "/dev/vfio/2", "/dev/vfio/vfio"}) {
    const kernel::handle file(model, model.open(path, O_RDWR));
    BOOST_TEST(file.get() >= (1 << 20));
  }
  BOOST_TEST(model.open("/dev/vfio/3", O_RDWR) == -ENOENT);
  BOOST_TEST(model.open("/dev/vfio/", O_RDWR) == -ENOENT);
  BOOST_TEST(model.open("/dev/vfio/0x", O_RDWR) == -ENOENT);
  BOOST_TEST(model.open("/dev/null", O_RDWR) == -ENOENT);
}

BOOST_AUTO_TEST_CASE(groups_are_as_given) {
  kernel::model_options options;
  options.groups = {{.number = 17, .iommu_backed = true, .viable = true, .devices = {"0000:00:1f.2", "0000:00:1f.3"}}};
  kernel::model model(options);
  std::array<char, 128> link{};
  const ssize_t told = model.readlink("/sys/bus/pci/devices/0000:00:1f.3/iommu_group", link.data(), link.size());
  BOOST_TEST(std::string(link.data(), static_cast<std::size_t>(told)) == "../../../kernel/iommu_groups/17");
  const attached with(model, {17});
  for (const char* name : {"0000:00:1f.2", "0000:00:1f.3"}) {
    const kernel::handle device(model, model.ioctl(with.groups[0].get(), VFIO_GROUP_GET_DEVICE_FD, name));
    BOOST_TEST(static_cast<bool>(device));
  }
}

BOOST_AUTO_TEST_CASE(links_stand_where_sysfs_has_them) {
  kernel::model model;
  std::array<char, 128> link{};
  const auto there = [&](const char* path) { return model.readlink(path, link.data(), link.size()) > 0; };
  BOOST_TEST(there("/sys/devices/platform/tidemark-test.1/iommu_group"));
  BOOST_TEST(there("/sys/bus/platform/devices/tidemark-test.1/iommu_group"));
  BOOST_TEST(there("/sys/bus/pci/devices/0000:00:04.0/iommu_group"));
  BOOST_TEST(there("/sys/devices/pci0000:00/0000:00:04.0/iommu_group"));
  BOOST_TEST(!there("/sys/bus/pci/devices/tidemark-test.1/iommu_group"));
  BOOST_TEST(!there("/sys/bus/platform/devices/0000:00:04.0/iommu_group"));
  BOOST_TEST(!there("/sys/bus/platform/devices/tidemark-test.1/driver"));
  BOOST_TEST(model.readlink("/sys/bus/pci/devices/0000:00:04.0/iommu_group", link.data(), 0) == -EINVAL);
}

BOOST_AUTO_TEST_CASE(page_sizes_and_windows_are_as_given) {
  kernel::model_options options;
  options.page_sizes = 0x10000;
  options.windows = {{0x100000, 0x1fffff}};
  kernel::model model(options);
  const memory ram(16 * 0x10000);
  const std::uint64_t vaddr = (ram.address() + 0xffff) & ~std::uint64_t{0xffff};
  const attached with(model, {2});
  BOOST_TEST(with.map(0x100000, page, vaddr) == -EINVAL);
  BOOST_TEST(with.map(0xf0000, 0x20000, vaddr) == -EINVAL);
  BOOST_TEST(with.map(0x1f0000, 0x10000, vaddr) == 0);
}

// --- what is held ---

BOOST_AUTO_TEST_CASE(facts_tell_what_is_mapped) {
  kernel::model model;
  const memory ram(8 * page);
  const attached first(model, {0});
  const attached second(model, {2});
  BOOST_TEST(first.map(page, 2 * page, ram.address(), VFIO_DMA_MAP_FLAG_READ) == 0);
  BOOST_TEST(second.map(0, 8 * page, ram.address()) == 0);
  const auto held = model.mappings();
  BOOST_TEST_REQUIRE(held.size() == 2U);
  BOOST_TEST(model.mapping_count() == 2U);
  BOOST_TEST(held[0].container == 0U);
  BOOST_TEST(held[0].iova == page);
  BOOST_TEST(held[0].size == 2 * page);
  BOOST_TEST(held[0].vaddr == ram.address());
  BOOST_TEST((held[0].readable && !held[0].writable && !held[0].pinned));
  BOOST_TEST(held[1].container == 1U);
  BOOST_TEST((held[1].readable && held[1].writable && held[1].pinned));
  BOOST_TEST(model.pinned_pages() == 8U);
  BOOST_TEST(model.open_descriptors() == 4U);
  BOOST_TEST(model.live_containers() == 2U);
}

BOOST_AUTO_TEST_CASE(nothing_outlives_its_owner) {
  kernel::model model;
  const memory ram(4 * page);
  {
    const attached with(model, {0, 2});
    const kernel::handle device(model, model.ioctl(with.groups[0].get(), VFIO_GROUP_GET_DEVICE_FD, "tidemark-test.0"));
    BOOST_TEST(with.map(0, 4 * page, ram.address()) == 0);
    BOOST_TEST(model.pinned_pages() == 4U);
  }
  BOOST_TEST(model.open_descriptors() == 0U);
  BOOST_TEST(model.live_containers() == 0U);
  BOOST_TEST(model.mapping_count() == 0U);
  BOOST_TEST(model.pinned_pages() == 0U);
}

BOOST_AUTO_TEST_CASE(closing_in_any_order_releases_all) {
  const std::array<std::array<int, 3>, 6> orders{{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}};
  for (const auto& order : orders) {
    kernel::model model;
    const memory ram(page);
    attached with(model, {0, 2});
    std::array<kernel::handle, 3> files{
        kernel::handle(model, model.ioctl(with.groups[0].get(), VFIO_GROUP_GET_DEVICE_FD, "tidemark-test.0")),
        std::move(with.groups[0]), std::move(with.container)};
    BOOST_TEST(model.open_descriptors() == 4U);
    for (const int which : order) {
      BOOST_TEST(model.live_containers() == 1U);
      files[static_cast<std::size_t>(which)].reset();
    }
    BOOST_TEST(model.live_containers() == 1U);  // the other group still holds it
    with.groups[1].reset();
    BOOST_TEST(model.live_containers() == 0U);
  }
}

BOOST_AUTO_TEST_CASE(descriptors_are_never_given_twice) {
  kernel::model model;
  const int first = model.open("/dev/vfio/vfio", O_RDWR);
  BOOST_TEST(model.close(first) == 0);
  const kernel::handle second(model, model.open("/dev/vfio/vfio", O_RDWR));
  BOOST_TEST(second.get() != first);
  BOOST_TEST(model.ioctl(first, VFIO_GET_API_VERSION) == -EBADF);
}

BOOST_AUTO_TEST_CASE(pins_go_when_the_last_backed_group_goes) {
  kernel::model model;
  const memory ram(4 * page);
  attached with(model, {0, 2});
  BOOST_TEST(with.map(0, 4 * page, ram.address()) == 0);
  BOOST_TEST(model.pinned_pages() == 4U);
  with.groups[1].reset();
  BOOST_TEST(model.pinned_pages() == 0U);
  BOOST_TEST(model.mapping_count() == 1U);
  BOOST_TEST(with.unmap(0, 4 * page) == static_cast<std::int64_t>(4 * page));
}

// --- limits ---

BOOST_AUTO_TEST_CASE(budget_is_as_given_for_each_container) {
  kernel::model_options options;
  options.mapping_budget = 3;
  kernel::model model(options);
  const memory ram(page);
  const attached first(model, {0});
  const attached second(model, {1});
  for (std::uint64_t i = 0; i < 3; ++i) BOOST_TEST(first.map(i * page, page, ram.address()) == 0);
  BOOST_TEST(first.map(3 * page, page, ram.address()) == -ENOSPC);
  BOOST_TEST(second.map(3 * page, page, ram.address()) == 0);
}

BOOST_AUTO_TEST_CASE(locked_memory_is_the_process_s) {
  kernel::model_options options;
  options.memlock_pages = 10;
  options.groups.push_back({.number = 3, .iommu_backed = true, .viable = true, .devices = {"0000:00:05.0"}});
  kernel::model model(options);
  const memory ram(8 * page);
  const attached first(model, {2});
  const attached second(model, {3});
  BOOST_TEST(first.map(0, 8 * page, ram.address()) == 0);
  BOOST_TEST(second.map(0, 3 * page, ram.address()) == -ENOMEM);
  BOOST_TEST(model.pinned_pages() == 8U);
  BOOST_TEST(second.map(0, 2 * page, ram.address()) == 0);
}

BOOST_AUTO_TEST_CASE(a_join_that_cannot_pin_leaves_nothing_pinned) {
  kernel::model_options options;
  options.memlock_pages = 6;
  kernel::model model(options);
  const memory ram(8 * page);
  const attached with(model, {0});
  BOOST_TEST(with.map(0, 4 * page, ram.address()) == 0);
  BOOST_TEST(with.map(8 * page, 4 * page, ram.address()) == 0);
  const kernel::handle backed(model, model.open("/dev/vfio/2", O_RDWR));
  BOOST_TEST(with.join(backed) == -ENOMEM);
  BOOST_TEST(model.pinned_pages() == 0U);
  BOOST_TEST(model.mapping_count() == 2U);
}

BOOST_AUTO_TEST_CASE(largest_bitmap_is_as_given) {
  kernel::model_options options;
  options.bitmap_bytes_max = 8;
  kernel::model model(options);
  const memory ram(page);
  const attached with(model, {0});
  BOOST_TEST(with.map(0, 64 * page, ram.address()) == 0);
  BOOST_TEST(with.track(VFIO_IOMMU_DIRTY_PAGES_FLAG_START) == -EINVAL);
  BOOST_TEST(with.unmap(0, 64 * page) > 0);
  BOOST_TEST(with.map(0, 63 * page, ram.address()) == 0);
  BOOST_TEST(with.track(VFIO_IOMMU_DIRTY_PAGES_FLAG_START) == 0);
  std::vector<std::uint64_t> words(2);
  BOOST_TEST(with.dirty(0, 63 * page, words) == -EINVAL);
  words.resize(1);
  BOOST_TEST(with.dirty(0, 63 * page, words) == 0);
}

// --- devices write this process's memory ---

BOOST_AUTO_TEST_CASE(a_long_doorbell_over_shifted_pages) {
  kernel::model model;
  const memory ram(300 * page);
  const attached with(model, {0});
  const kernel::handle device(model, model.ioctl(with.groups[0].get(), VFIO_GROUP_GET_DEVICE_FD, "tidemark-test.0"));
  BOOST_TEST(with.map(0, 300 * page, ram.address()) == 0);
  BOOST_TEST(with.track(VFIO_IOMMU_DIRTY_PAGES_FLAG_START) == 0);
  const tidemark_test_doorbell bell{.iova = 5, .length = TIDEMARK_TEST_DOORBELL_BYTES_MAX, .value = 0x0807060504030201};
  BOOST_TEST(model.write(device.get(), &bell, sizeof(bell)) == static_cast<ssize_t>(sizeof(bell)));
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(ram.address());
  std::size_t wrong = 0;
  for (std::uint64_t i = 0; i < bell.length; ++i) wrong += bytes[5 + i] != i % 8 + 1 ? 1U : 0U;
  BOOST_TEST(wrong == 0U);
  BOOST_TEST((bytes[4] == 0 && bytes[5 + bell.length] == 0));
  std::vector<std::uint64_t> words(5);
  BOOST_TEST(with.dirty(0, 300 * page, words) == 0);
  BOOST_TEST((words[0] == ~0ULL && words[3] == ~0ULL && words[4] == 1U));
}

// --- size ---

BOOST_AUTO_TEST_CASE(a_million_mappings) {
  constexpr std::uint64_t count = 1'000'000;
  kernel::model_options options;
  options.mapping_budget = count;
  kernel::model model(options);
  const memory ram(page);
  const attached with(model, {0});
  const kernel::handle device(model, model.ioctl(with.groups[0].get(), VFIO_GROUP_GET_DEVICE_FD, "tidemark-test.0"));
  for (std::uint64_t i = 0; i < count; ++i) {
    if (with.map(2 * i * page, page, ram.address()) != 0) BOOST_FAIL("a map failed");
  }
  BOOST_TEST(with.track(VFIO_IOMMU_DIRTY_PAGES_FLAG_START) == 0);
  const tidemark_test_doorbell bell{.iova = 2 * 777'777 * page, .length = 8, .value = 1};
  BOOST_TEST(model.write(device.get(), &bell, sizeof(bell)) == static_cast<ssize_t>(sizeof(bell)));
  std::vector<std::uint64_t> words(2 * count / 64);
  BOOST_TEST(with.dirty(0, 2 * count * page, words) == 0);
  BOOST_TEST(words[2 * 777'777 / 64] == 1ULL << (2 * 777'777 % 64));
  BOOST_TEST(with.unmap(0, 2 * count * page) == static_cast<std::int64_t>(count * page));
  BOOST_TEST(model.mapping_count() == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
