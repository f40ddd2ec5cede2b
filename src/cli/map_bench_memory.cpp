// SPDX-License-Identifier: Apache-2.0

#include "cli/map_bench_memory.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>

#include "cli/keys.hpp"
#include "cli/size.hpp"

namespace tidemark::cli {
namespace {

constexpr std::uint64_t huge_bytes = std::uint64_t{2} << 20;

error no_memory(int cause, std::uint64_t bytes, page_kind pages) {
  std::string mend = size_text(bytes) + " of memory: ask for less --memory";
  if (pages == page_kind::huge)
    mend += ", or give the kernel huge pages: echo " + std::to_string(bytes / huge_bytes) + " > /proc/sys/vm/nr_hugepages";
  return kernel_error(operation::map, cause, {}, mend);
}

}  // namespace

result<bench_memory> bench_memory::make(std::uint64_t bytes, page_kind pages) {
  const bool huge = pages == page_kind::huge;
  const auto all = huge ? bytes : bytes + huge_bytes;  // room to align; huge pages are aligned
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB : MAP_NORESERVE);
  void* at = mmap(nullptr, all, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (at == MAP_FAILED) return no_memory(errno, bytes, pages);
  // A kernel without huge pages refuses the advice, and has small ones anyway.
  if (!huge) (void)madvise(at, all, pages == page_kind::thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  const auto unaligned = reinterpret_cast<std::uintptr_t>(at) % huge_bytes;
  return bench_memory(at, all, static_cast<std::byte*>(at) + (unaligned == 0 ? 0 : huge_bytes - unaligned), bytes);
}

bench_memory::~bench_memory() {
  if (at_) munmap(at_, all_);
}

bool bench_memory::lock() noexcept { return mlock(host_, bytes_) == 0; }

void bench_memory::touch() noexcept {
  for (std::uint64_t at = 0; at < bytes_; at += page_bytes) host_[at] = std::byte{1};
}

}  // namespace tidemark::cli
