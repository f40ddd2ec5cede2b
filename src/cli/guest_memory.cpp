// SPDX-License-Identifier: Apache-2.0

#include "cli/guest_memory.hpp"

#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>

namespace tidemark::cli {

result<guest_memory> guest_memory::make(std::string name, std::uint64_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED)
    return kernel_error(operation::add_region, errno, {},
                        std::to_string(bytes) + " bytes for RAM block " + name + ": ask for less --memory");
  return guest_memory(ram_block{std::move(name), static_cast<std::byte*>(at), bytes});
}

guest_memory::~guest_memory() {
  if (block_.host) munmap(block_.host, block_.size);
}

std::uint64_t guest_memory::fill(std::uint64_t seed) noexcept {
  std::uint64_t state = seed * 0x9e3779b97f4a7c15ULL + 1;
  for (std::uint64_t at = 0; at != block_.size; at += sizeof state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(block_.host + at, &state, sizeof state);
  }
  return block_.size;
}

std::uint64_t peak_memory_bytes(int who) noexcept {
  rusage used{};
  getrusage(who, &used);
  return static_cast<std::uint64_t>(used.ru_maxrss) * 1024;
}

}  // namespace tidemark::cli
