// SPDX-License-Identifier: Apache-2.0
//
// A small virtual machine on the model kernel: RAM blocks, a VFIO device and a CPU that dirty them, regions that come and
// go. Each of them is a coroutine that takes a step after a random virtual time. The machine keeps books of its own, by
// other means than the engine's: what its memory must hold, which regions must be there, how many pages were written.
//
// Threading: one thread.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/container.hpp>
#include <tidemark/dirty_log.hpp>
#include <tidemark/dirty_stream.hpp>
#include <tidemark/kernel_model.hpp>
#include <tidemark/migration.hpp>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "kernel/test_device.h"
#include "simulation/world.hpp"

namespace tidemark::simulation {

/// The model's groups, each of which needs a container of its own; their devices log their DMA, or not.
kernel::model_options groups_apart(bool log_dma = false);

/// Page-aligned memory, zeroed.
class memory {
 public:
  explicit memory(std::uint64_t bytes);
  memory(memory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  memory& operator=(memory&&) = delete;
  ~memory();
  std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

class machine final : public guest {
 public:
  /// The kernel the machine calls, and the model at its bottom, which is asked for facts only.
  struct kernels {
    kernel::files& calls;
    const kernel::model& facts;
  };
  /// What stands between the machine's own log of CPU writes and the stream; empty: nothing.
  using log_wrapper = std::function<std::unique_ptr<cpu_dirty_source>(cpu_dirty_source&)>;

  machine(ring::loop& loop, chance& luck, turn_workers& threads, kernels on, const log_wrapper& wrap_log = {});
  ~machine() override;

  /// Connects containers and devices, fills memory, maps the first regions. Then the CPU, the device and the regions start.
  ring::task<void> power_on();
  /// Ends the coroutines; completes when they are gone.
  ring::task<void> power_off();

  void start_pause(completion<void> done) override;
  void start_resume(completion<void> done) override;
  bool running() const noexcept { return running_; }

  address_space& space() noexcept { return space_; }
  dirty_stream& stream() noexcept { return *stream_; }
  std::uint64_t steps() const noexcept { return cpu_writes_ + device_writes_ + region_changes_; }

  /// What the kernel holds is what the address space says. Only when no region event is under way.
  bool mappings_agree() const;
  /// What the address space says is what its answers to the events said. Only when no region event is under way.
  bool regions_agree() const;
  /// Memory holds what the CPU and the devices wrote, and nothing else.
  bool memory_is_what_was_written() const;
  std::uint64_t pages() const;
  /// Pages written so far, a page counted again with each write.
  std::uint64_t pages_written() const noexcept { return pages_written_; }

 private:
  static constexpr std::uint64_t slots = 8;  // where regions may stand in the IOVA space
  static constexpr std::uint64_t slot_bytes = 1 << 24;

  template <class Step>
  ring::task<void> act(std::chrono::nanoseconds longest_pause, Step step);
  void cpu_step();
  void device_step();
  ring::task<void> region_step();
  ring::task<void> add(region added);
  ring::task<void> remove(region there);
  void answer(completion<void> done);

  void expect_doorbell(std::size_t container, const tidemark_test_doorbell& bell);
  std::byte* expected_at(std::uint64_t host);

  ring::loop& loop_;
  chance& luck_;
  kernels kernel_;
  any_io_executor executor_;
  std::vector<memory> memory_;
  std::vector<std::vector<std::byte>> expected_;  ///< of each block
  std::map<std::uint64_t, region> expected_regions_;
  host host_;
  address_space space_;
  std::vector<device> devices_;
  std::unique_ptr<dirty_log> log_;
  std::unique_ptr<cpu_dirty_source> wrapped_log_;
  std::unique_ptr<dirty_stream> stream_;
  unsigned pace_ = 1;  ///< a quiet guest takes so many times longer between its steps
  bool running_ = false;
  bool on_ = false;
  std::size_t actors_ = 0;
  std::uint64_t cpu_writes_ = 0;
  std::uint64_t device_writes_ = 0;
  std::uint64_t region_changes_ = 0;
  std::uint64_t pages_written_ = 0;
};

}  // namespace tidemark::simulation
