// SPDX-License-Identifier: Apache-2.0

#include "kernel/user_memory.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace tidemark::kernel::user {
namespace {

constexpr std::uint64_t first_address = 0x10000;            // nothing is ever mapped below vm.mmap_min_addr
constexpr std::uint64_t end_of_memory = 0x7ffffffff000ULL;  // x86-64 and arm64 with four levels of page tables

// Not the functions of <sys/uio.h>: the sanitizers take those for accesses of the calling thread, and this is DMA.
bool transfer(long call, std::uint64_t address, void* buffer, std::size_t bytes) noexcept {
  if (!plausible(address, bytes)) return false;
  iovec ours{buffer, bytes};
  iovec theirs{reinterpret_cast<void*>(address), bytes};
  const long moved = ::syscall(call, ::getpid(), &ours, 1UL, &theirs, 1UL, 0UL);
  if (moved >= 0) return static_cast<std::size_t>(moved) == bytes;
  if (errno == EFAULT) return false;
  // A sandbox that forbids the call: then wild addresses crash.
  if (call == SYS_process_vm_readv) {
    std::memcpy(buffer, theirs.iov_base, bytes);
  } else {
    std::memcpy(theirs.iov_base, buffer, bytes);
  }
  return true;
}

bool plausible_argument(std::uintptr_t argument, std::size_t bytes) noexcept {
  return argument >= first_address && plausible(argument, bytes);
}

// madvise answers ENOMEM both for a hole and for want of memory; pinning tells them apart.
bool has_hole(std::uint64_t address, std::uint64_t bytes) noexcept {
  constexpr std::uint64_t step_bytes = 1ULL << 30;
  std::vector<unsigned char> resident(std::min(bytes, step_bytes) / page_bytes + 1);
  for (std::uint64_t done = 0; done < bytes; done += step_bytes) {
    const std::uint64_t now = std::min(step_bytes, bytes - done);
    if (::mincore(reinterpret_cast<void*>(address + done), now, resident.data()) < 0) return errno == ENOMEM;
  }
  return false;
}

}  // namespace

bool plausible(std::uint64_t address, std::uint64_t bytes) noexcept {
  return bytes <= end_of_memory && address <= end_of_memory - bytes;
}

bool read(std::uint64_t address, void* to, std::size_t bytes) noexcept {
  return transfer(SYS_process_vm_readv, address, to, bytes);
}

bool write(std::uint64_t address, const void* from, std::size_t bytes) noexcept {
  return transfer(SYS_process_vm_writev, address, const_cast<void*>(from), bytes);
}

bool copy_argument_in(std::uintptr_t argument, void* to, std::size_t bytes) noexcept {
  if (!plausible_argument(argument, bytes)) return false;
  std::memcpy(to, reinterpret_cast<const void*>(argument), bytes);
  return true;
}

bool copy_argument_out(std::uintptr_t argument, const void* from, std::size_t bytes) noexcept {
  if (!plausible_argument(argument, bytes)) return false;
  std::memcpy(reinterpret_cast<void*>(argument), from, bytes);
  return true;
}

int populate(std::uint64_t address, std::uint64_t bytes, bool writable) noexcept {
  if (!plausible(address, bytes)) return -EFAULT;
  const int advice = writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
  while (::madvise(reinterpret_cast<void*>(address), bytes, advice) < 0) {
    if (errno == EAGAIN || errno == EINTR) continue;
    if (errno == ENOMEM && !has_hole(address, bytes)) return -ENOMEM;
    return -EFAULT;  // a hole, no permission, or a file that ends before
  }
  return 0;
}

}  // namespace tidemark::kernel::user
