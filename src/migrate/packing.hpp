// SPDX-License-Identifier: Apache-2.0
//
// Pages made smaller, a frame's payload at once: lz4, or zstd at its quickest. Pure. Threading: a `packer` belongs to one
// thread and keeps what the libraries need from one call to the next.

#pragma once

#include <tidemark/error.hpp>

#include <cstddef>
#include <memory>
#include <span>

#include "migrate/wire.hpp"

namespace tidemark::migrate {

std::string_view name_of(packing how) noexcept;

class packer {
 public:
  packer();
  ~packer();

  /// The bytes written to `into`; 0 when `from` does not become smaller than `into` is. `how` is not none.
  std::size_t pack(packing how, std::span<const std::byte> from, std::span<std::byte> into);

  /// Fills `into` exactly, or says why not.
  result<void> unpack(packing how, std::span<const std::byte> from, std::span<std::byte> into);

 private:
  struct contexts;
  std::unique_ptr<contexts> contexts_;
};

}  // namespace tidemark::migrate
