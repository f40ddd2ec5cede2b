// SPDX-License-Identifier: Apache-2.0
//
// The memory that a benchmark maps, in pages of the kind asked for, aligned to 2 MiB. Owned here. One thread.

#pragma once

#include <tidemark/error.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "cli/config.hpp"

namespace tidemark::cli {

class bench_memory {
 public:
  static result<bench_memory> make(std::uint64_t bytes, page_kind pages);

  bench_memory(bench_memory&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), all_(other.all_), host_(other.host_), bytes_(other.bytes_) {}
  bench_memory& operator=(bench_memory&&) = delete;
  ~bench_memory();

  std::byte* host() const noexcept { return host_; }
  std::uint64_t size() const noexcept { return bytes_; }

  /// Writes to every page, so that who maps it first does not pay for it.
  void touch() noexcept;
  /// Keeps it where it is: mlock(2). False when this user may not lock so much.
  bool lock() noexcept;

 private:
  bench_memory(void* at, std::uint64_t all, std::byte* host, std::uint64_t bytes) noexcept
      : at_(at), all_(all), host_(host), bytes_(bytes) {}

  void* at_;
  std::uint64_t all_;
  std::byte* host_;
  std::uint64_t bytes_;
};

}  // namespace tidemark::cli
