// SPDX-License-Identifier: Apache-2.0
//
// Reads a snapshot (docs/snapshot.md): any pages, without reading the rest, or all of them into a guest's memory; and the
// devices' states.
//
// Invariants
//  1. open() answers a reader only of a complete snapshot, whose tables and bitmap are those that were written. No length of
//  the file is believed before it was checked.
//  2. What is read is what was written, or an error: each page is checked against its checksum, each piece of a device's
//  state against its own. A page that fails is cleared.
//  3. The file is never written, and its descriptor is the reader's own.
//
// Threading: the loop's thread. Tasks are awaited to their end before the reader is destroyed; several may be under way.
// Memory: a bit for each page of the guest, 32 bytes for each piece of a device's state.

#pragma once

#include <tidemark/migration.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/bitmap.hpp"
#include "migrate/snapshot_file.hpp"
#include "migrate/snapshot_format.hpp"
#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::migrate {

class snapshot_reader {
 public:
  struct device {
    std::string name;
    std::uint64_t bytes = 0;  ///< of its state
  };

  /// What memory is that a snapshot goes into.
  enum class memory : std::uint8_t {
    fresh,  ///< all zeros: pages of zeros are passed over
    used    ///< anything: pages of zeros are cleared, where they are not zero
  };

  /// `path` may be a snapshot that is being overwritten: the one that was there is read.
  static ring::task<result<std::unique_ptr<snapshot_reader>>> open(ring::uring_loop& loop, std::string path);
  snapshot_reader(const snapshot_reader&) = delete;

  const std::vector<block_description>& blocks() const noexcept { return blocks_; }
  const std::vector<device>& devices() const noexcept { return devices_; }
  std::uint64_t stored_pages() const noexcept { return stored_.count(); }  ///< that are not zero

  /// Whole pages, from a page of a block on.
  ring::task<result<void>> read(block_index block, std::uint64_t first_page, std::span<std::byte> to);

  /// All of it. `blocks` have the names and sizes of blocks(), in that order.
  ring::task<result<void>> restore(const std::vector<ram_block>& blocks, memory before);

  /// A part of the state of devices()[index]. Fast where it is whole pieces: state that was written in parts of 512 KiB or
  /// more is read best by multiples of 512 KiB.
  ring::task<result<void>> read_device(std::size_t index, std::uint64_t from, std::span<std::byte> to);

 private:
  /// Pages [page, page + pages) of the file, and where they go.
  struct part {
    std::uint64_t page = 0;
    std::uint64_t pages = 0;
    std::byte* host = nullptr;
    bool stored = false;
  };
  class parts;
  struct state_piece {
    std::uint64_t from = 0;    ///< in its device's state
    std::uint64_t offset = 0;  ///< in the file
    std::uint64_t checksum = 0;
    std::uint32_t bytes = 0;
  };

  snapshot_reader(ring::uring_loop& loop, std::string path, snapshot_file file)
      : loop_(loop), path_(std::move(path)), file_(std::move(file)) {}

  ring::task<result<void>> read_index();
  ring::task<result<void>> read_trailer();
  ring::task<result<void>> read_blocks();
  ring::task<result<void>> read_bitmap();
  ring::task<result<void>> read_devices();
  ring::task<result<std::string>> read_table(std::uint64_t offset, std::uint64_t bytes);
  void take_pieces(snapshot_devices devices);

  ring::task<result<void>> read_ranges(std::vector<part> ranges, memory before);
  ring::task<void> read_parts(parts& left, std::optional<error>& failure);
  ring::task<result<void>> read_part(part what);
  ring::task<result<void>> read_piece(const state_piece& piece, std::uint64_t skipped, std::span<std::byte> to);
  ring::task<result<void>> get(std::uint64_t offset, std::span<std::byte> to);
  error wrong_page(std::uint64_t page) const;
  error at_path(error why) const;

  ring::uring_loop& loop_;
  std::string path_;
  snapshot_file file_;
  snapshot_trailer trailer_;
  snapshot_layout layout_;
  std::vector<block_description> blocks_;
  std::vector<std::uint64_t> first_pages_;  ///< of the blocks, in the file
  core::bitmap stored_;
  std::vector<device> devices_;
  std::vector<std::vector<state_piece>> pieces_;  ///< of each device, in order
};

}  // namespace tidemark::migrate
