// SPDX-License-Identifier: Apache-2.0
//
// The file of a snapshot, version 1, as docs/snapshot.md has it: what stands where, and its parts as bytes and as values.
//
//   header | pages, block after block | checksums of pages | bitmap of pages | blocks | devices' states | devices | trailer
//
// Invariants
//  1. The place of a page, of its checksum and of its bit follow from the blocks' sizes alone. Pages are numbered through
//  all blocks: page n stands at (n + 1) * page_bytes.
//  2. No length of a file is believed before the checksum over it was checked, and then not beyond the bounds below; where
//  the parts stand is worked out, never read.
//
// Pure: bytes in, values out. What is decoded and breaks a rule is errc::snapshot_damaged (or not_a_snapshot, or
// snapshot_incomplete) with the reason; the path is added by whoever knows it.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct XXH3_state_s;  // of xxhash.h

namespace tidemark::migrate {

inline constexpr std::uint64_t snapshot_magic = 0x50414e5345444954;          // "TIDESNAP"
inline constexpr std::uint64_t snapshot_trailer_magic = 0x4c49415445444954;  // "TIDETAIL"
inline constexpr std::uint32_t snapshot_version = 1;

inline constexpr std::uint64_t snapshot_pages_max = std::uint64_t{1} << 34;  // 64 TiB
inline constexpr std::uint64_t snapshot_blocks_max = 4096;
inline constexpr std::uint64_t snapshot_devices_max = 4096;
inline constexpr std::uint64_t snapshot_device_pieces_max = std::uint64_t{1} << 20;
inline constexpr std::uint64_t snapshot_name_bytes_max = 1024;
/// A device's state has a checksum for each piece of at most this; memory is read and written by as much at once.
inline constexpr std::uint64_t snapshot_piece_bytes = 512 << 10;

enum class snapshot_state : std::uint32_t { incomplete = 0, complete = 1 };

/// At 0; what follows up to page_bytes is zero.
struct snapshot_header {
  std::uint64_t magic = snapshot_magic;
  std::uint32_t version = snapshot_version;
  snapshot_state state = snapshot_state::incomplete;
  std::uint64_t trailer_offset = 0;  ///< 0 while incomplete, as is file_bytes
  std::uint64_t file_bytes = 0;
  std::uint64_t checksum = 0;  ///< XXH3 of the header up to here
};
static_assert(sizeof(snapshot_header) == 40);

/// The file's last bytes.
struct snapshot_trailer {
  std::uint64_t magic = snapshot_trailer_magic;
  std::uint64_t pages = 0;         ///< of all blocks
  std::uint64_t stored_pages = 0;  ///< whose bit is set
  std::uint64_t bitmap_checksum = 0;
  std::uint64_t blocks = 0;
  std::uint64_t blocks_bytes = 0;  ///< of the table of blocks
  std::uint64_t blocks_checksum = 0;
  std::uint64_t states_bytes = 0;  ///< of all devices' states
  std::uint64_t devices = 0;
  std::uint64_t device_pieces = 0;
  std::uint64_t devices_bytes = 0;  ///< of the table of devices and pieces
  std::uint64_t devices_checksum = 0;
  std::uint64_t checksum = 0;  ///< XXH3 of the trailer up to here
};
static_assert(sizeof(snapshot_trailer) == 104);

/// Where the parts stand.
struct snapshot_layout {
  std::uint64_t pages = 0;
  std::uint64_t checksums_offset = 0;
  std::uint64_t bitmap_offset = 0;
  std::uint64_t blocks_offset = 0;
  std::uint64_t states_offset = 0;

  static snapshot_layout of(std::uint64_t pages, std::uint64_t blocks_bytes) noexcept;

  static constexpr std::uint64_t page_offset(std::uint64_t page) noexcept { return (page + 1) * page_bytes; }
  std::uint64_t checksum_offset(std::uint64_t page) const noexcept {
    return checksums_offset + page * sizeof(std::uint64_t);
  }
  std::uint64_t devices_offset(std::uint64_t states_bytes) const noexcept;
  std::uint64_t trailer_offset(std::uint64_t states_bytes, std::uint64_t devices_bytes) const noexcept;
};

/// A part of a device's state. Pieces stand one right behind the other, in the order of the table.
struct snapshot_piece {
  std::uint32_t device = 0;  ///< index of its name
  std::uint32_t bytes = 0;
  std::uint64_t checksum = 0;

  friend bool operator==(const snapshot_piece&, const snapshot_piece&) = default;
};
static_assert(sizeof(snapshot_piece) == 16);

struct snapshot_devices {
  std::vector<std::string> names;
  std::vector<snapshot_piece> pieces;
};

std::uint64_t snapshot_checksum(std::span<const std::byte> bytes) noexcept;
/// Of a page that has a place: the same bytes in another place have another one.
std::uint64_t snapshot_page_checksum(std::uint64_t page, const std::byte* bytes) noexcept;

/// A checksum of what comes in parts.
class snapshot_sum {
 public:
  snapshot_sum();
  snapshot_sum(const snapshot_sum&) = delete;
  ~snapshot_sum();

  void add(std::span<const std::byte> bytes) noexcept;
  std::uint64_t value() const noexcept;

 private:
  XXH3_state_s* state_;
};

/// With their checksum set.
snapshot_header sealed(snapshot_header header) noexcept;
snapshot_trailer sealed(snapshot_trailer trailer) noexcept;

/// Of a complete snapshot of this version that is `file_bytes` long.
result<void> check_header(const snapshot_header& header, std::uint64_t file_bytes);
/// Its bounds, and that what it announces ends where it stands.
result<void> check_trailer(const snapshot_trailer& trailer, std::uint64_t trailer_offset);

/// What a snapshot may hold: at least one block, whole pages, each name once, within the bounds. Why not, or nothing.
std::string why_not_blocks(std::span<const block_description> blocks);

std::string encode_snapshot_blocks(std::span<const block_description> blocks);
result<std::vector<block_description>> decode_snapshot_blocks(std::string_view table, const snapshot_trailer& trailer);

std::string encode_snapshot_devices(const snapshot_devices& devices);
result<snapshot_devices> decode_snapshot_devices(std::string_view table, const snapshot_trailer& trailer);

error snapshot_damage(std::string why);

}  // namespace tidemark::migrate
