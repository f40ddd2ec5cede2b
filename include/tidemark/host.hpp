// SPDX-License-Identifier: Apache-2.0
//
// What the address spaces of one program have in common: the kernel, the threads beside the loop, KVM's VM, who blocks RAM
// discarding, and which groups are taken.
//
// Threading: any thread. Life: the kernel and the workers outlive the host, which outlives its address spaces.

#pragma once

#include <tidemark/container.hpp>
#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>
#include <tidemark/ram_discard.hpp>
#include <tidemark/threads.hpp>

#include <mutex>
#include <set>
#include <utility>

namespace tidemark {

class host {
 public:
  /// `options` are those of every container; warnings come on the executor of the address space they concern.
  explicit host(kernel::files& kernel, workers& threads = thread_workers(), container_options options = {})
      : kernel_(kernel), threads_(threads), options_(std::move(options)) {}
  host(const host&) = delete;
  host& operator=(const host&) = delete;

  kernel::files& kernel() const noexcept { return kernel_; }
  workers& threads() const noexcept { return threads_; }
  const container_options& options() const noexcept { return options_; }

  /// Balloons and virtio-mem ask here; attached devices hold blocks here.
  ram_discard& discards() noexcept { return discards_; }

  /// A group that is taken, until this ends. Move-only.
  class [[nodiscard]] group_claim {
   public:
    group_claim(group_claim&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), number_(other.number_) {}
    group_claim& operator=(group_claim&&) = delete;
    ~group_claim() {
      if (owner_) owner_->release_group(number_);
    }

   private:
    friend class host;
    group_claim(host& owner, unsigned number) noexcept : owner_(&owner), number_(number) {}

    host* owner_;
    unsigned number_;
  };

  /// A group belongs to one address space. errc::group_in_other_space.
  result<group_claim> claim_group(unsigned number);

 private:
  void release_group(unsigned number) noexcept;

  kernel::files& kernel_;
  workers& threads_;
  const container_options options_;
  ram_discard discards_;
  std::mutex mutex_;
  std::set<unsigned> claimed_;
};

}  // namespace tidemark
