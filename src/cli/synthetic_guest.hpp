// SPDX-License-Identifier: Apache-2.0
//
// A guest that the tool makes up: RAM blocks, a CPU thread and a device that dirty them, and regions that are added and
// removed meanwhile. Each of these but the RAM may be left out.
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
#include <string>
#include <vector>

#include "cli/dirtier.hpp"
#include "cli/guest_memory.hpp"
#include "ring/loop.hpp"
#include "ring/task.hpp"

namespace tidemark::cli {

/// What the guest did.
struct guest_activity {
  std::uint64_t cpu_pages = 0;
  std::uint64_t device_pages = 0;
  std::uint64_t refused_dma = 0;
  std::uint64_t region_changes = 0;
};

/// What it consists of.
struct guest_plan {
  std::vector<guest_memory> memory{};
  bool fill = true;                  ///< with bytes that repeat nowhere, before it runs; else memory is as it is
  std::uint64_t cpu_rate_bytes = 0;  ///< a second; 0: no CPU writes
  std::string device{};              ///< the test device's name on the platform bus; empty: none
  std::uint64_t device_rate_bytes = 0;
  std::uint64_t region_changes_per_second = 0;
  std::uint64_t seed = 0;
};

class synthetic_guest final : public guest {
 public:
  synthetic_guest(ring::loop& loop, kernel::files& kernel, guest_plan plan);
  ~synthetic_guest() override;

  /// Memory, device, first regions. Nothing runs yet.
  ring::task<result<void>> prepare();
  /// The CPU, the device and the regions begin.
  void start();
  /// Ends what start() began, completes when the last region event has.
  ring::task<void> stop();

  void start_pause(completion<void> done) override;
  void start_resume(completion<void> done) override;
  bool can_throttle() const noexcept override { return true; }
  void start_throttle(unsigned percent, completion<void> done) override;

  address_space& space() noexcept { return space_; }
  /// None where no CPU writes: a guest that stands still is not watched.
  std::vector<cpu_dirty_source*> cpu_sources() const;
  const std::optional<device>& test_device() const noexcept { return device_; }
  guest_activity activity() const;
  /// How often the device's doorbell had been rung when the guest was last paused: what the device's state says, too.
  std::optional<std::uint64_t> doorbells_at_pause() const noexcept { return doorbells_at_pause_; }

 private:
  ring::task<result<void>> add_memory();
  ring::task<result<void>> attach_device();
  void choose_cpu_source();
  void note_doorbells();
  region stays(block_index block) const;
  region comes_and_goes(block_index block) const;
  ring::task<void> change_regions();
  ring::task<void> change_one_region();

  std::uint64_t dirty_by_cpu(std::uint64_t pages);
  std::uint64_t dirty_by_device(std::uint64_t pages);

  ring::loop& loop_;
  any_io_executor executor_;
  kernel::files& kernel_;
  guest_plan plan_;
  std::vector<std::uint64_t> iovas_;  ///< of the blocks
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
  std::optional<std::uint64_t> doorbells_at_pause_;
  std::atomic<std::uint64_t> refused_dma_ = 0;
  std::atomic<unsigned> throttle_percent_ = 0;
  double throttled_pages_ = 0;  ///< that the CPU may write in a part

  std::unique_ptr<dirtier> cpu_;
  std::unique_ptr<dirtier> device_driver_;
};

}  // namespace tidemark::cli
