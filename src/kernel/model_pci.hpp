// SPDX-License-Identifier: Apache-2.0
//
// A PCI function as vfio-pci shows it: its regions, its interrupts, its configuration space and one BAR of memory.
//
// Threading: the model's mutex is held around every call.

#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <tidemark/kernel_model.hpp>

namespace tidemark::kernel::modelled {

class pci_function {
 public:
  explicit pci_function(const model_pci& about);

  /// As the driver enables the function when it is opened.
  void enable() noexcept;
  bool resettable() const noexcept { return about_.resettable; }
  void reset();

  int get_info(std::uintptr_t argument) const;
  int get_region(std::uintptr_t argument) const;
  int get_irq(std::uintptr_t argument) const;
  ssize_t read(void* buffer, std::size_t bytes, std::uint64_t offset) const;
  ssize_t write(const void* buffer, std::size_t bytes, std::uint64_t offset);

 private:
  static constexpr std::size_t config_bytes = 256;

  std::uint64_t region_bytes(std::uint32_t index) const noexcept;
  /// How many bytes of a region's range are there to read or write; a negative errno when none.
  ssize_t reachable(std::uint32_t index, std::uint64_t from, std::size_t bytes) const noexcept;
  void write_config(std::uint64_t at, std::byte value) noexcept;

  const model_pci about_;
  std::array<std::byte, config_bytes> config_{};
  std::vector<std::byte> bar_;  ///< made when it is first written
};

}  // namespace tidemark::kernel::modelled
