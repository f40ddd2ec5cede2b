// SPDX-License-Identifier: Apache-2.0
//
// What the tests of attaching and detaching stand on: some kernel, made to fail where a test says so, with the groups of the
// test guest; a loop and workers driven by hand; and what is held at any moment, seen from outside the engine. The same
// tests run on the model and, in the guest, on the real kernel.
//
// Threading: one thread.

#pragma once

#include <sys/mman.h>
#include <tidemark/address_space.hpp>
#include <tidemark/host.hpp>
#include <tidemark/kernel_faulty.hpp>
#include <tidemark/kernel_model.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "conformance/bench.hpp"
#include "dma/hand_workers.hpp"
#include "ring/executor.hpp"
#include "support/manual_loop.hpp"

namespace tidemark::lifecycle {

inline constexpr std::uint64_t page = page_bytes;

/// The kernel under test. On the model it is made anew for each stage, as `shape` wants it.
enum class on { model, linux };

/// What is held of the kernel and of the host. All of it is 0 when nothing is attached.
struct holdings {
  std::size_t descriptors = 0;   ///< of VFIO
  std::size_t containers = 0;    ///< the model's
  std::size_t mappings = 0;      ///< the model's
  std::uint64_t pinned_kib = 0;  ///< locked memory
  std::size_t kvm_groups = 0;    ///< the model's
  std::size_t blockers = 0;      ///< of RAM discarding
  std::size_t devices = 0;       ///< the address space's

  friend bool operator==(const holdings&, const holdings&) = default;
};
std::ostream& operator<<(std::ostream& to, const holdings& what);

/// A KVM VM with its VFIO device; empty where there is no /dev/kvm.
class kvm_vm {
 public:
  explicit kvm_vm(kernel::files& kernel);
  int device() const noexcept { return device_ ? device_.get() : -1; }

 private:
  kernel::handle kvm_;
  kernel::handle vm_;
  kernel::handle device_;
};

class stage {
 public:
  using shape = std::function<void(kernel::model_options&)>;

  explicit stage(on which, const shape& change = {});
  ~stage();

  /// The model, or null on the real kernel: for facts that only it tells.
  const kernel::model* model() const noexcept { return model_.get(); }
  kernel::faulty& kernel() noexcept { return kernel_; }
  kernel::files& bare_kernel() noexcept { return model_ ? static_cast<kernel::files&>(*model_) : kernel::host_kernel(); }
  const conformance::topology& groups() const noexcept { return groups_; }
  host& around() noexcept { return *host_; }
  any_io_executor executor() { return loop_.get_executor(); }
  workers& threads() noexcept { return threads_; }
  bool has_kvm() const noexcept { return vm_->device() >= 0; }

  /// A second address space of the same host.
  std::unique_ptr<address_space> another_space() { return std::make_unique<address_space>(loop_.get_executor(), *host_); }
  address_space& space() noexcept { return *space_; }
  /// Ends the first address space with all that is attached to it.
  void end_space() { space_.reset(); }

  holdings held() const;
  std::vector<error> take_warnings() { return std::exchange(warnings_, {}); }

  result<device> attach(const std::string& which, attach_options options = {}) { return attach_to(*space_, which, options); }
  result<device> attach_to(address_space& to, const std::string& which, attach_options options = {});
  result<void> detach(const device& which) { return detach_from(*space_, which); }
  result<void> detach_from(address_space& from, const device& which);
  result<void> add(std::uint64_t iova, std::uint64_t pages, std::uint64_t first_page = 0);
  result<void> remove(std::uint64_t iova, std::uint64_t pages);

  template <class T, class Start>
  result<T> done(Start start) {
    std::optional<result<T>> outcome;
    start([&outcome](result<T> given) { outcome.emplace(std::move(given)); });
    settle();
    if (!outcome) throw std::logic_error("an operation did not complete");
    return std::move(*outcome);
  }
  /// Everything that can be done now is done.
  void settle();
  /// Only what is beside the executor, which does not know of it yet.
  void work() {
    while (threads_.run()) {
    }
  }

  std::byte* memory() const noexcept { return memory_; }
  static constexpr std::uint64_t memory_pages = 64;

 private:
  std::unique_ptr<kernel::model> model_;
  kernel::faulty kernel_;
  conformance::topology groups_;
  tests::hand_workers threads_;
  tests::manual_loop loop_;
  std::unique_ptr<kvm_vm> vm_;
  std::vector<error> warnings_;
  std::unique_ptr<host> host_;
  std::byte* memory_;
  std::unique_ptr<address_space> space_;
  std::size_t descriptors_before_ = 0;
  std::uint64_t pinned_before_kib_ = 0;
};

/// The sysfs path of a test device.
std::string test_device(const conformance::group_name& group);

}  // namespace tidemark::lifecycle
