// SPDX-License-Identifier: Apache-2.0
//
// What a conformance case works with: some kernel, its groups, and short verbs for the requests. A case says what it expects
// in terms of the kernel's version and never in terms of which kernel it is.
//
// Threading: one thread. Descriptors and memory are given back when the case ends, so that the next one finds the groups
// free.

#pragma once

#include <linux/vfio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <tidemark/kernel.hpp>
#include <tidemark/kernel_model.hpp>

namespace tidemark::conformance {

inline constexpr std::uint64_t page = 4096;
inline constexpr std::uint64_t top = ~std::uint64_t{0};

struct failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// This kernel cannot show the case; the text says why.
struct skipped : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct group_name {
  unsigned number = 0;
  std::string device;
  std::string other{};  ///< another device of the group
};

struct topology {
  std::vector<group_name> emulated{};      ///< groups of test devices, each alone in its group
  std::optional<group_name> backed{};      ///< an IOMMU-backed group of one device, QEMU's edu
  std::optional<group_name> pair{};        ///< an IOMMU-backed group of two; the other has MSI-X
  std::optional<group_name> not_viable{};  ///< another driver has a device of it
  std::vector<group_name> noiommu{};
};

/// Anonymous memory of this process, zeroed and page-aligned.
class memory {
 public:
  explicit memory(std::uint64_t bytes, bool writable = true);
  ~memory() { release(); }
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;

  std::uint64_t address() const noexcept { return reinterpret_cast<std::uint64_t>(data_); }
  volatile std::uint8_t& at(std::uint64_t offset) const noexcept { return data_[offset]; }
  void release() noexcept;

 private:
  std::uint8_t* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

class bench {
 public:
  bench(kernel::files& under_test, kernel::kernel_version version, topology groups)
      : kernel(under_test), version_(version), groups_(std::move(groups)) {}

  kernel::files& kernel;

  /// The one expression in which kernels differ.
  bool since(unsigned major, unsigned minor) const { return version_ >= kernel::kernel_version{major, minor}; }
  /// For iova or vaddr ranges that pass 2^64.
  int wraps() const { return since(6, 18) ? -EOVERFLOW : -EINVAL; }

  const group_name& emulated(std::size_t index = 0) const;
  const group_name& backed() const;
  const group_name& pair() const;
  const group_name& not_viable() const;
  const group_name& noiommu() const;

  kernel::handle open(const std::string& path) const;
  kernel::handle open_container() const { return open("/dev/vfio/vfio"); }
  kernel::handle open_group(const group_name& which) const { return open("/dev/vfio/" + std::to_string(which.number)); }
  kernel::handle open_device(const kernel::handle& group, const std::string& name) const;
  int attach(const kernel::handle& group, const kernel::handle& container) const;

 private:
  kernel::kernel_version version_;
  topology groups_;
};

/// What a case has observed until now, and forgets: the answers it looked at, in order, in one line. Two kernels agree on a
/// case when these are equal, whatever was expected.
std::string take_transcript();

/// Throws a failure that names the answer when it is not the expected one. Answers are results or negative errnos.
void expect_equal(long long actual, long long expected, const std::string& what);
template <class Actual, class Expected>
void expect(Actual actual, Expected expected, const std::string& what) {
  expect_equal(static_cast<long long>(actual), static_cast<long long>(expected), what);
}
void expect_true(bool holds, const std::string& what);

/// A container with groups and an IOMMU, and the requests it takes.
class session {
 public:
  session(const bench& on, const std::vector<group_name>& members, unsigned long type = VFIO_TYPE1v2_IOMMU);

  int map(std::uint64_t iova, std::uint64_t size, std::uint64_t vaddr,
          std::uint32_t flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE) const;
  /// `size` becomes what the kernel tells, or stays when it tells nothing.
  int unmap(std::uint64_t iova, std::uint64_t& size, std::uint32_t flags = 0) const;
  /// Unmaps the lower half of the space, without ALL, which old kernels lack. The bytes that were mapped there.
  std::uint64_t unmap_low() const;
  int unmap_with_bitmap(std::uint64_t iova, std::uint64_t& size, const vfio_bitmap& bitmap, std::uint32_t flags = 0) const;
  int dirty(std::uint32_t flags) const;
  int start() const { return dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_START); }
  int stop() const { return dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP); }
  int get(std::uint64_t iova, std::uint64_t size, const vfio_bitmap& bitmap) const;
  int get(std::uint64_t iova, std::uint64_t size, std::vector<std::uint64_t>& words) const;
  kernel::handle device(std::size_t member = 0) const;

  const bench& on;
  kernel::handle container;
  std::vector<kernel::handle> groups;
  std::vector<group_name> members;
};

inline session emulated_session(const bench& b, unsigned long type = VFIO_TYPE1v2_IOMMU) {
  return {b, {b.emulated()}, type};
}
inline session backed_session(const bench& b) { return {b, {b.backed()}}; }
inline session mixed_session(const bench& b) { return {b, {b.emulated(), b.backed()}}; }

vfio_bitmap bitmap_of(std::vector<std::uint64_t>& words, std::uint64_t page_bytes = page);

/// One doorbell of the test device. 0 or a negative errno.
int ring(const bench& b, const kernel::handle& device, std::uint64_t iova, std::uint64_t length, std::uint64_t value);

/// The answer to GET_INFO with its capability chain taken apart.
struct iommu_info {
  vfio_iommu_type1_info info{};
  std::vector<std::uint32_t> offsets;  ///< of the capabilities, as chained
  std::optional<vfio_iommu_type1_info_cap_migration> migration;
  std::optional<std::uint32_t> available;
  std::vector<vfio_iova_range> windows;
};
iommu_info get_info(const session& s);

struct test_case {
  std::string name;
  std::function<void(bench&)> run;
  /// Versions that can show it: from the first on, and before the second.
  kernel::kernel_version from{0, 0};
  kernel::kernel_version before{1000, 0};
  /// For what only a model can be made to be; the reason is what a real kernel's run says of the case.
  std::function<void(kernel::model_options&)> shape{};
  std::string model_only{};
  std::uint64_t memlock_pages = 0;  ///< the limit on locked memory under which the case runs; 0 is none
};

std::vector<test_case> container_rows();  ///< the answers of the type1 driver one by one, in the order it checks
std::vector<test_case> unmap_rows();
std::vector<test_case> container_cases();
std::vector<test_case> group_cases();
std::vector<test_case> topology_cases();
std::vector<test_case> device_cases();
std::vector<test_case> pci_cases();
std::vector<test_case> migration_cases();
std::vector<test_case> log_cases();
std::vector<test_case> kvm_cases();
std::vector<test_case> info_cases();
std::vector<test_case> map_cases();
std::vector<test_case> unmap_cases();
std::vector<test_case> dirty_cases();
std::vector<test_case> bitmap_cases();
std::vector<test_case> spapr_cases();
std::vector<test_case> noiommu_cases();

/// The test guest's groups, as tests/vm/guest-init makes them: besides the usual ones one of two devices, and one that is
/// not viable.
std::vector<kernel::model_group> modelled_guest_groups();
/// The same by what they are good for.
topology groups_of(const kernel::model_options& options);

/// The groups of the kernel this program runs on, found by the names of their devices.
topology discover();
kernel::kernel_version running_version();

/// While it lives this process may lock just so many pages, whatever its privileges.
class memlock_limit {
 public:
  explicit memlock_limit(std::uint64_t pages);
  ~memlock_limit();
  memlock_limit(const memlock_limit&) = delete;
  memlock_limit& operator=(const memlock_limit&) = delete;

 private:
  std::uint64_t previous_bytes_ = 0;
};

}  // namespace tidemark::conformance
