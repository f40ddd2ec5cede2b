// SPDX-License-Identifier: Apache-2.0
//
// Memory of the tool's guests: pages of this process, of a memory file, or of a file that is there. Owned here, unmapped at
// the end. Threading: a value.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/error.hpp>

#include <cstdint>
#include <string>
#include <utility>

#include "ring/descriptor.hpp"

namespace tidemark::cli {

class guest_memory {
 public:
  /// Anonymous: the kernel gives its pages as they are first written.
  static result<guest_memory> make(std::string name, std::uint64_t bytes);
  /// The same in a memory file (memfd), which can be handed over.
  static result<guest_memory> make_shared(std::string name, std::uint64_t bytes);
  /// Of a file that is there, such as another process's memory in /dev/shm: as large as it is. Its name is the block's. What
  /// was written of it is mapped at once, as it is where a guest has run.
  static result<guest_memory> of_file(const std::string& path);
  /// Of a memory file that was handed over, which may be closed then.
  static result<guest_memory> of_descriptor(std::string name, std::uint64_t bytes, int file);

  guest_memory(guest_memory&& other) noexcept : block_(std::exchange(other.block_, {})), file_(std::move(other.file_)) {}
  guest_memory& operator=(guest_memory&&) = delete;
  ~guest_memory();

  const ram_block& block() const noexcept { return block_; }

  /// Writes every page, with bytes that follow from `seed` and repeat nowhere. Gives the bytes written.
  std::uint64_t fill(std::uint64_t seed) noexcept;

 private:
  guest_memory(ram_block block, ring::descriptor file) noexcept : block_(std::move(block)), file_(std::move(file)) {}
  void populate() const noexcept;
  static result<guest_memory> map(std::string name, std::uint64_t bytes, ring::descriptor file);

  ram_block block_;
  ring::descriptor file_;
};

/// The most memory that this process, or a child that has ended, held at once.
std::uint64_t peak_memory_bytes(int who) noexcept;

}  // namespace tidemark::cli
