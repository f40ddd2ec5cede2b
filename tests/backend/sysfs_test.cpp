// SPDX-License-Identifier: Apache-2.0

#include "backend/sysfs.hpp"

#include <tidemark/kernel_model.hpp>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>

using namespace tidemark;
using backend::group_of_device;

namespace {

/// A file system of one link.
class one_link final : public kernel::files {
 public:
  explicit one_link(std::string target, int errno_value = 0) : target_(std::move(target)), errno_(errno_value) {}

  std::string asked() const { return asked_; }

  ssize_t readlink(const char* path, char* target, std::size_t bytes) noexcept override {
    asked_ = path;
    if (errno_ != 0) return -errno_;
    const auto told = std::min(bytes, target_.size());
    std::memcpy(target, target_.data(), told);
    return static_cast<ssize_t>(told);
  }
  int open(const char*, int) noexcept override { return -ENOSYS; }
  int close(int) noexcept override { return -ENOSYS; }
  int ioctl(int, unsigned long, std::uintptr_t) noexcept override { return -ENOSYS; }
  ssize_t read(int, void*, std::size_t) noexcept override { return -ENOSYS; }
  ssize_t write(int, const void*, std::size_t) noexcept override { return -ENOSYS; }
  ssize_t pread(int, void*, std::size_t, std::uint64_t) noexcept override { return -ENOSYS; }
  ssize_t pwrite(int, const void*, std::size_t, std::uint64_t) noexcept override { return -ENOSYS; }

 private:
  std::string target_;
  std::string asked_;
  int errno_;
};

const std::string device = "/sys/bus/pci/devices/0000:01:00.0";

/// The errno of the failure, whose text must name the path.
int failure_of(const std::string& target, int errno_value = 0) {
  one_link files(target, errno_value);
  const auto group = group_of_device(files, device);
  BOOST_REQUIRE(!group);
  BOOST_TEST((group.error().what == operation::attach));
  BOOST_TEST(group.error().message().find(device) != std::string::npos);
  return group.error().code.value();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(sysfs)

// covers R1
BOOST_AUTO_TEST_CASE(the_link_ends_in_the_group_number) {
  one_link files("../../../../kernel/iommu_groups/17");
  BOOST_TEST(group_of_device(files, device).value() == 17U);
  BOOST_TEST(files.asked() == device + "/iommu_group");
  one_link bare("4294967295");
  BOOST_TEST(group_of_device(bare, device).value() == 4294967295U);
  kernel::model model;
  BOOST_TEST(group_of_device(model, "/sys/bus/pci/devices/0000:00:04.0").value() == 2U);
}

// covers R1
BOOST_AUTO_TEST_CASE(a_missing_link_says_so) {
  BOOST_TEST(failure_of("", ENOENT) == ENOENT);
  BOOST_TEST(failure_of("", EACCES) == EACCES);
}

// covers R1
BOOST_AUTO_TEST_CASE(a_link_longer_than_the_buffer_is_an_error_of_its_own) {
  BOOST_TEST(failure_of(std::string(PATH_MAX, '1')) == ENAMETOOLONG);
  BOOST_TEST(failure_of(std::string(2 * PATH_MAX, '/')) == ENAMETOOLONG);
}

// covers R1
BOOST_AUTO_TEST_CASE(a_name_that_is_no_number_is_an_error_of_its_own) {
  for (const auto* target : {"", "/", "iommu_groups/", "iommu_groups/x", "iommu_groups/1x", "iommu_groups/-1",
                             "iommu_groups/+1", "iommu_groups/ 1", "iommu_groups/4294967296", "iommu_groups/0x10"})
    BOOST_TEST(failure_of(target) == EINVAL, target);
}

BOOST_AUTO_TEST_SUITE_END()
