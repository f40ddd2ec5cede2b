// SPDX-License-Identifier: Apache-2.0
//
// Memory of the demo's guest: anonymous pages that the kernel gives as they are first written. Owned here, unmapped at the
// end. Threading: a value.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/error.hpp>

#include <cstdint>
#include <string>
#include <utility>

namespace tidemark::cli {

class guest_memory {
 public:
  static result<guest_memory> make(std::string name, std::uint64_t bytes);

  guest_memory(guest_memory&& other) noexcept : block_(std::exchange(other.block_, {})) {}
  guest_memory& operator=(guest_memory&&) = delete;
  ~guest_memory();

  const ram_block& block() const noexcept { return block_; }

  /// Writes every page, with bytes that follow from `seed` and repeat nowhere. Gives the bytes written.
  std::uint64_t fill(std::uint64_t seed) noexcept;

 private:
  explicit guest_memory(ram_block block) noexcept : block_(std::move(block)) {}

  ram_block block_;
};

/// The most memory that this process, or a child that has ended, held at once.
std::uint64_t peak_memory_bytes(int who) noexcept;

}  // namespace tidemark::cli
