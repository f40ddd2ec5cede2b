// SPDX-License-Identifier: Apache-2.0
//
// The kernel that fails when told to: what it lets through, what it refuses, and what it tells of both.

#include <linux/kvm.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <thread>

#include <tidemark/kernel_faulty.hpp>

#include "vfio_calls.hpp"

using namespace tidemark;
using test::memory;
using test::page;

namespace {

/// Takes a group into a container and maps a page; stops at the first failure, as a program would. 0 or that failure.
int attach_and_map(kernel::files& on, const memory& ram) {
  const kernel::handle container(on, on.open("/dev/vfio/vfio", O_RDWR));
  if (!container) return -EIO;
  const int version = on.ioctl(container.get(), VFIO_GET_API_VERSION);
  if (version < 0) return version;
  const kernel::handle group(on, on.open("/dev/vfio/0", O_RDWR));
  if (!group) return -EIO;
  int fd = container.get();
  if (const int failure = on.ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &fd)) return failure;
  if (const int failure = on.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_TYPE1v2_IOMMU})) return failure;
  vfio_iommu_type1_dma_map map{
      .argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ, .vaddr = ram.address(), .iova = 0, .size = page};
  return on.ioctl(container.get(), VFIO_IOMMU_MAP_DMA, &map);
}

constexpr std::array names = {"open",           "VFIO_GET_API_VERSION", "open", "VFIO_GROUP_SET_CONTAINER",
                              "VFIO_SET_IOMMU", "VFIO_IOMMU_MAP_DMA"};

}  // namespace

BOOST_AUTO_TEST_SUITE(faulty)

BOOST_AUTO_TEST_CASE(without_a_fault_it_is_the_kernel_below) {
  kernel::model model;
  kernel::faulty faulty(model);
  const memory ram(page);
  BOOST_TEST(attach_and_map(faulty, ram) == 0);
  BOOST_TEST(faulty.calls() == names.size());
  BOOST_TEST(faulty.injected() == 0U);
  BOOST_TEST(faulty.closes() == 2U);
  BOOST_TEST(model.open_descriptors() == 0U);
}

BOOST_AUTO_TEST_CASE(the_trace_names_every_call) {
  kernel::model model;
  kernel::faulty faulty(model);
  const memory ram(page);
  attach_and_map(faulty, ram);
  const auto trace = faulty.trace();
  BOOST_TEST_REQUIRE(trace.size() == names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    BOOST_TEST(trace[i].number == i + 1);
    BOOST_TEST(trace[i].name == names[i]);
    BOOST_TEST((trace[i].returned && !trace[i].injected && trace[i].answer >= 0));
  }
  BOOST_TEST(trace[0].path == "/dev/vfio/vfio");
  BOOST_TEST(trace[2].path == "/dev/vfio/0");
}

BOOST_AUTO_TEST_CASE(every_call_can_be_the_one_that_fails) {
  kernel::model model;
  kernel::faulty faulty(model);
  const memory ram(page);
  for (std::size_t n = 1; n <= names.size(); ++n) {
    faulty.clear();
    faulty.fail_nth(n, EIO);
    BOOST_TEST(attach_and_map(faulty, ram) == -EIO);
    BOOST_TEST(faulty.calls() == n);
    BOOST_TEST(faulty.injected() == 1U);
    BOOST_TEST_REQUIRE(faulty.trace().size() == n);
    BOOST_TEST(faulty.trace().back().injected);
    BOOST_TEST(faulty.trace().back().answer == -EIO);
    BOOST_TEST(model.open_descriptors() == 0U);
    BOOST_TEST(attach_and_map(faulty, ram) == 0);  // only once
  }
}

BOOST_AUTO_TEST_CASE(what_fails_does_not_reach_the_kernel_below) {
  kernel::model model;
  kernel::faulty faulty(model);
  faulty.fail_nth(1, EMFILE);
  BOOST_TEST(faulty.open("/dev/vfio/vfio", O_RDWR) == -EMFILE);
  BOOST_TEST(model.open_descriptors() == 0U);
  BOOST_TEST(model.live_containers() == 0U);
}

BOOST_AUTO_TEST_CASE(a_fault_can_be_kept_for_one_request) {
  kernel::model model;
  kernel::faulty faulty(model);
  const memory ram(page);
  faulty.fail_nth(2, ENOMEM, "VFIO_IOMMU_MAP_DMA");
  BOOST_TEST(attach_and_map(faulty, ram) == 0);
  BOOST_TEST(attach_and_map(faulty, ram) == -ENOMEM);
  BOOST_TEST(attach_and_map(faulty, ram) == 0);
  faulty.fail_randomly(7, 1, {EBUSY}, "VFIO_SET_IOMMU");
  BOOST_TEST(attach_and_map(faulty, ram) == -EBUSY);
}

BOOST_AUTO_TEST_CASE(close_never_fails) {
  kernel::model model;
  kernel::faulty faulty(model);
  const int fd = faulty.open("/dev/vfio/vfio", O_RDWR);
  faulty.fail_nth(1, EIO);
  BOOST_TEST(faulty.close(fd) == 0);
  BOOST_TEST(faulty.ioctl(fd, VFIO_GET_API_VERSION) == -EIO);  // the close was not the first call
}

BOOST_AUTO_TEST_CASE(all_kinds_of_calls_can_fail) {
  kernel::model model;
  kernel::faulty faulty(model);
  std::array<char, 8> buffer{};
  faulty.fail_randomly(1, 1, {EIO});
  BOOST_TEST(faulty.open("/dev/vfio/vfio", O_RDWR) == -EIO);
  BOOST_TEST(faulty.ioctl(0, VFIO_GET_API_VERSION) == -EIO);
  BOOST_TEST(faulty.read(0, buffer.data(), 1) == -EIO);
  BOOST_TEST(faulty.write(0, buffer.data(), 1) == -EIO);
  BOOST_TEST(faulty.pread(0, buffer.data(), 1, 0) == -EIO);
  BOOST_TEST(faulty.pwrite(0, buffer.data(), 1, 0) == -EIO);
  BOOST_TEST(faulty.readlink("/", buffer.data(), 1) == -EIO);
  faulty.fail_none();
  BOOST_TEST(faulty.read(0, buffer.data(), 1) == -EBADF);
}

BOOST_AUTO_TEST_CASE(a_seed_fails_alike_and_another_does_not) {
  const auto answers = [](std::uint64_t seed) {
    kernel::model model;
    kernel::faulty faulty(model);
    faulty.fail_randomly(seed, 0.25, {EIO, ENOMEM, EBUSY});
    std::vector<int> seen;
    for (int i = 0; i < 400; ++i) seen.push_back(faulty.ioctl(0, VFIO_GET_API_VERSION));
    BOOST_TEST(faulty.injected() > 50U);
    BOOST_TEST(faulty.injected() < 150U);
    return seen;
  };
  BOOST_TEST((answers(1) == answers(1)));
  BOOST_TEST((answers(1) != answers(2)));
}

BOOST_AUTO_TEST_CASE(numbers_that_mean_several_requests_are_told_apart) {
  kernel::model_options options;
  options.spapr.emplace();
  kernel::model model(options);
  kernel::faulty faulty(model);
  const kernel::handle container(faulty, faulty.open("/dev/vfio/vfio", O_RDWR));
  const kernel::handle group(faulty, faulty.open("/dev/vfio/2", O_RDWR));
  int fd = container.get();
  faulty.ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &fd);
  BOOST_TEST(faulty.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_SPAPR_TCE_v2_IOMMU}) == 0);
  const kernel::handle device(faulty, faulty.ioctl(group.get(), VFIO_GROUP_GET_DEVICE_FD, "0000:00:04.0"));
  faulty.ioctl(container.get(), VFIO_IOMMU_SPAPR_REGISTER_MEMORY);
  BOOST_TEST(faulty.trace().back().name == "VFIO_IOMMU_SPAPR_REGISTER_MEMORY");
  faulty.ioctl(container.get(), VFIO_IOMMU_SPAPR_TCE_GET_INFO);
  BOOST_TEST(faulty.trace().back().name == "VFIO_IOMMU_SPAPR_TCE_GET_INFO");
  faulty.ioctl(device.get(), VFIO_DEVICE_FEATURE);
  BOOST_TEST(faulty.trace().back().name == "VFIO_DEVICE_FEATURE");
  BOOST_TEST(kernel::request_name(VFIO_IOMMU_DIRTY_PAGES) == std::string("VFIO_IOMMU_DIRTY_PAGES"));
  BOOST_TEST(kernel::request_name(KVM_SET_DEVICE_ATTR) == std::string("KVM_SET_DEVICE_ATTR"));
  BOOST_TEST(kernel::request_name(0x1234) == std::string("ioctl"));
}

BOOST_AUTO_TEST_CASE(threads_are_numbered_without_a_gap) {
  constexpr std::size_t each = 2000;
  kernel::model model;
  kernel::faulty faulty(model);
  faulty.fail_randomly(3, 0.1, {EIO});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < each; ++i) faulty.ioctl(0, VFIO_GET_API_VERSION);
    });
  }
  for (auto& thread : threads) thread.join();
  const auto trace = faulty.trace();
  BOOST_TEST(trace.size() == 4 * each);
  std::size_t injected = 0;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    if (trace[i].number != i + 1 || !trace[i].returned) BOOST_FAIL("the trace has a gap");
    injected += trace[i].injected ? 1U : 0U;
  }
  BOOST_TEST(injected == faulty.injected());
}

BOOST_AUTO_TEST_SUITE_END()
