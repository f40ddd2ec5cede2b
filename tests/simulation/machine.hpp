// SPDX-License-Identifier: Apache-2.0
//
// A small virtual machine on the model kernel: RAM blocks, a VFIO device and a CPU that dirty them, regions that come and go. Each of
// them is a coroutine that takes a step after a random virtual time.
//
// Threading: one thread.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/container.hpp>
#include <tidemark/dirty_log.hpp>
#include <tidemark/dirty_stream.hpp>
#include <tidemark/kernel_model.hpp>
#include <tidemark/migration.hpp>

#include <memory>
#include <optional>
#include <vector>

#include "simulation/world.hpp"

namespace tidemark::simulation {

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
  machine(ring::loop& loop, chance& luck, turn_workers& threads, kernel::model& kernel);
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

 private:
  static constexpr std::uint64_t slots = 8;  // where regions may stand in the IOVA space
  static constexpr std::uint64_t slot_bytes = 1 << 24;

  template <class Step>
  ring::task<void> act(std::chrono::nanoseconds longest_pause, Step step);
  void cpu_step();
  void device_step();
  ring::task<void> region_step();
  void answer(completion<void> done);

  ring::loop& loop_;
  chance& luck_;
  turn_workers& threads_;
  kernel::model& kernel_;
  any_io_executor executor_;
  std::vector<memory> memory_;
  address_space space_;
  std::vector<std::unique_ptr<container>> containers_;
  std::vector<device> devices_;
  std::unique_ptr<dirty_log> log_;
  std::unique_ptr<dirty_stream> stream_;
  bool running_ = false;
  bool on_ = false;
  std::size_t actors_ = 0;
  std::uint64_t cpu_writes_ = 0;
  std::uint64_t device_writes_ = 0;
  std::uint64_t region_changes_ = 0;
};

}  // namespace tidemark::simulation
