// SPDX-License-Identifier: Apache-2.0

#include "cli/guest_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace tidemark::cli {

result<guest_memory> guest_memory::map(std::string name, std::uint64_t bytes, ring::descriptor file) {
  const int kind = file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kind, file.get(), 0);
  if (at == MAP_FAILED)
    return kernel_error(operation::add_region, errno, {},
                        std::to_string(bytes) + " bytes for RAM block " + name + ": ask for less --memory");
  ram_block block{std::move(name), static_cast<std::byte*>(at), bytes, file.get()};
  return guest_memory(std::move(block), std::move(file));
}

result<guest_memory> guest_memory::make(std::string name, std::uint64_t bytes) { return map(std::move(name), bytes, {}); }

result<guest_memory> guest_memory::make_shared(std::string name, std::uint64_t bytes) {
  ring::descriptor file(memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!file || ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
    return kernel_error(operation::add_region, errno, {}, "a memory file for RAM block " + name);
  return map(std::move(name), bytes, std::move(file));
}

result<guest_memory> guest_memory::of_file(const std::string& path) {
  ring::descriptor file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct stat about {};
  if (!file || fstat(file.get(), &about) != 0) return kernel_error(operation::add_region, errno, {}, "--ram: " + path);
  const auto bytes = static_cast<std::uint64_t>(about.st_size);
  if (!S_ISREG(about.st_mode) || bytes == 0 || bytes % page_bytes != 0)
    return kernel_error(operation::add_region, EINVAL, {},
                        "--ram: " + path + " is no file of whole pages (4KiB); make one with: truncate -s 2GiB " + path);
  auto mapped = map(path, bytes, std::move(file));
  if (mapped) mapped->populate();
  return mapped;
}

/// Holes stay holes. A kernel that cannot (before 5.14) maps pages as they are touched.
void guest_memory::populate() const noexcept {
  const auto end = static_cast<off_t>(block_.size);
  for (off_t at = 0; at < end;) {
    const auto data = lseek(file_.get(), at, SEEK_DATA);
    if (data < 0 || data >= end) return;
    const auto hole = std::min(lseek(file_.get(), data, SEEK_HOLE), end);
    if (hole <= data) return;
    const auto first = static_cast<std::uint64_t>(data) / page_bytes * page_bytes;
    madvise(block_.host + first, static_cast<std::uint64_t>(hole) - first, MADV_POPULATE_WRITE);
    at = hole;
  }
}

result<guest_memory> guest_memory::of_descriptor(std::string name, std::uint64_t bytes, int shared) {
  struct stat about {};
  ring::descriptor file(fcntl(shared, F_DUPFD_CLOEXEC, 0));
  if (!file || fstat(file.get(), &about) != 0 || static_cast<std::uint64_t>(about.st_size) < bytes)
    return kernel_error(operation::add_region, EINVAL, {}, "the memory file of RAM block " + name + " is too short");
  return map(std::move(name), bytes, std::move(file));
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
