// SPDX-License-Identifier: Apache-2.0
//
// The guest of the demo's source: RAM blocks, a CPU thread and a device that dirty them, and regions that are added and
// removed meanwhile.
//
// Each RAM block is seen at one IOVA by a region of its first seven eighths, which stays, and by one of the rest, which
// comes and goes like memory that is plugged in and out. The device writes everywhere; where nothing is mapped its DMA is
// refused, as hardware would fault.
//
// What the CPU thread writes the kernel sees (pagemap_source, Linux 6.7); where it does not, the thread says so itself
// (dirty_log).
//
// Threading: the executor's, one thread; the dirtiers have threads of their own.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/device.hpp>
#include <tidemark/dirty_log.hpp>
#include <tidemark/host.hpp>
#include <tidemark/migration.hpp>

#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "cli/dirtier.hpp"
#include "cli/guest_memory.hpp"
#include "cli/request.hpp"
#include "ring/loop.hpp"
#include "ring/task.hpp"

namespace tidemark::cli {

/// What the guest did.
struct demo_activity {
  std::uint64_t cpu_pages = 0;
  std::uint64_t device_pages = 0;
  std::uint64_t refused_dma = 0;
  std::uint64_t region_changes = 0;
};

class demo_guest final : public guest {
 public:
  demo_guest(ring::loop& loop, kernel::files& kernel, const demo_request& request);
  ~demo_guest() override;

  /// Memory, device, first regions. Nothing runs yet.
  ring::task<result<void>> prepare();
  /// The CPU, the device and the regions begin.
  void start();
  /// Ends what start() began, completes when the last region event has.
  ring::task<void> stop();

  void start_pause(completion<void> done) override;
  void start_resume(completion<void> done) override;

  address_space& space() noexcept { return space_; }
  cpu_dirty_source& cpu_source() noexcept { return *cpu_source_; }
  unsigned group() const noexcept { return device_->group(); }
  demo_activity activity() const;

 private:
  ring::task<result<void>> make_memory();
  ring::task<result<void>> attach_device();
  void choose_cpu_source();
  region stays(block_index block) const;
  region comes_and_goes(block_index block) const;
  ring::task<void> change_regions();
  ring::task<void> change_one_region();

  std::uint64_t dirty_by_cpu(std::uint64_t pages);
  std::uint64_t dirty_by_device(std::uint64_t pages);

  ring::loop& loop_;
  any_io_executor executor_;
  kernel::files& kernel_;
  const demo_request& request_;
  std::uint64_t block_bytes_ = 0;

  std::vector<guest_memory> memory_;
  host host_;
  address_space space_;
  std::optional<device> device_;
  std::unique_ptr<cpu_dirty_source> cpu_source_;
  dirty_log* cpu_log_ = nullptr;  // if that is what it is

  std::mt19937_64 region_choices_, cpu_choices_, device_choices_;
  ring::timer region_pace_;
  bool changing_regions_ = false;
  bool region_task_ended_ = true;
  std::uint64_t region_changes_ = 0;
  std::atomic<std::uint64_t> refused_dma_ = 0;

  std::unique_ptr<dirtier> cpu_;
  std::unique_ptr<dirtier> device_driver_;
};

}  // namespace tidemark::cli
