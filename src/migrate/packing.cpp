// SPDX-License-Identifier: Apache-2.0

#include "migrate/packing.hpp"

#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <limits>

namespace tidemark::migrate {

namespace {

// Negative levels are quicker and pack less: pages have to leave at the speed of a network.
constexpr int zstd_level = 1;

struct freed {
  void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
};

const char* chars(std::span<const std::byte> bytes) noexcept { return reinterpret_cast<const char*>(bytes.data()); }
char* chars(std::span<std::byte> bytes) noexcept { return reinterpret_cast<char*>(bytes.data()); }

}  // namespace

struct packer::contexts {
  std::unique_ptr<ZSTD_CCtx, freed> pack{ZSTD_createCCtx()};
  std::unique_ptr<ZSTD_DCtx, freed> unpack{ZSTD_createDCtx()};
};

std::string_view name_of(packing how) noexcept {
  switch (how) {
    case packing::none:
      return "none";
    case packing::lz4:
      return "lz4";
    case packing::zstd:
      return "zstd";
  }
  return "?";
}

packer::packer() : contexts_(std::make_unique<contexts>()) {}
packer::~packer() = default;

std::size_t packer::pack(packing how, std::span<const std::byte> from, std::span<std::byte> into) {
  static_assert(payload_bytes_max <= LZ4_MAX_INPUT_SIZE);
  if (how == packing::lz4) {
    const int packed =
        LZ4_compress_default(chars(from), chars(into), static_cast<int>(from.size()), static_cast<int>(into.size()));
    return static_cast<std::size_t>(std::max(packed, 0));
  }
  const auto packed =
      ZSTD_compressCCtx(contexts_->pack.get(), into.data(), into.size(), from.data(), from.size(), zstd_level);
  return ZSTD_isError(packed) != 0 ? 0 : packed;
}

result<void> packer::unpack(packing how, std::span<const std::byte> from, std::span<std::byte> into) {
  bool whole = false;
  if (how == packing::lz4) {
    whole = LZ4_decompress_safe(chars(from), chars(into), static_cast<int>(from.size()), static_cast<int>(into.size())) ==
            static_cast<int>(into.size());
  } else {
    whole = ZSTD_decompressDCtx(contexts_->unpack.get(), into.data(), into.size(), from.data(), from.size()) == into.size();
  }
  if (!whole) return protocol_error("pages packed with " + std::string(name_of(how)) + " do not unpack");
  return {};
}

}  // namespace tidemark::migrate
