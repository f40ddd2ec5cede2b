// SPDX-License-Identifier: Apache-2.0
//
// Writes a guest's memory and its devices' states into a file (docs/snapshot.md), while the guest runs: rounds of dirty
// pages go over one another in the pages' fixed places, so the file does not grow with rounds.
//
//   auto snapshot = snapshot_writer::make(loop, path, descriptions, false);
//   co_await (*snapshot)->write(batch.runs(), blocks);      // once a round, or more often
//   co_await (*snapshot)->write_device("0000:01:00.0", state);
//   co_await (*snapshot)->finish();
//
// Invariants
//  1. PATH is never an incomplete file: all is written to PATH.partial, which finish() renames when it is on the disk. What
//  was at PATH until then stays as it is. A file of either name whose header does not say "complete" is none.
//  2. A page's checksum is that of the bytes in the file, whatever the guest writes meanwhile: each is copied once.
//  3. A page of zeros takes no room, where the filesystem has holes.
//  4. After a failure nothing but abandon() is of use: all other calls answer that failure.
//  5. PATH.partial is locked (flock) while it is written, and deleted unless it was finished.
//
// Threading: the loop's thread. Tasks are awaited to their end before the writer is destroyed; several may be under way, and
// take turns.
// Memory: 8 bytes and a bit for each page that holds data, and 4 MiB of buffers. The RAM blocks stay mapped, and a device's
// state unchanged, until the task completes.

#pragma once

#include <tidemark/migration.hpp>
#include <tidemark/page_run.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/bitmap.hpp"
#include "migrate/snapshot_file.hpp"
#include "migrate/snapshot_format.hpp"
#include "ring/mutex.hpp"
#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::migrate {

class snapshot_writer {
 public:
  /// Makes PATH.partial; may block for as long as opening a file does. Refused where PATH is there and no snapshot, unless
  /// it is to be overwritten; where another process is writing the same snapshot; and where either is no regular file.
  static result<std::unique_ptr<snapshot_writer>> make(ring::uring_loop& loop, std::string path,
                                                       std::vector<block_description> blocks, bool overwrite);
  snapshot_writer(const snapshot_writer&) = delete;
  ~snapshot_writer() { abandon(); }

  /// Writes these pages as they are now. `blocks` are those of make(), in their order. Pages that no call named are zero.
  ring::task<result<void>> write(std::vector<page_run> runs, const std::vector<ram_block>& blocks);

  /// Appends to the state of the device of this name. Devices are kept in the order in which they were first named.
  ring::task<result<void>> write_device(std::string name, std::span<const std::byte> state);

  /// Writes the index, brings all to the disk and gives the file its name. Nothing is written afterwards (errc::closed).
  ring::task<result<void>> finish();

  /// Deletes what is not finished. Tasks under way end with an error.
  void abandon() noexcept;

  std::uint64_t stored_pages() const noexcept { return stored_pages_; }    ///< that are not zero
  std::uint64_t written_bytes() const noexcept { return written_bytes_; }  ///< of pages, all rounds

 private:
  /// Pages that stand one behind the other, in memory and in the file.
  struct part {
    const std::byte* host = nullptr;
    std::uint64_t page = 0;  ///< in the file
    std::uint64_t pages = 0;
  };
  class parts;
  struct freed {
    void operator()(std::uint64_t* memory) const noexcept { std::free(memory); }
  };

  snapshot_writer(ring::uring_loop& loop, std::string path, std::vector<block_description> blocks, bool overwrite,
                  snapshot_file file);

  result<void> check_open() const;
  result<void> check(std::span<const page_run> runs, const std::vector<ram_block>& blocks) const;
  ring::task<void> write_parts(parts& left, std::size_t lane);
  ring::task<int> write_part(part what, std::byte* staging);
  ring::task<result<void>> write_state(std::uint32_t device, std::span<const std::byte> state);
  result<std::uint32_t> device_of(std::string name);
  ring::task<result<void>> put(std::uint64_t offset, std::span<const std::byte> from);
  ring::task<result<void>> write_checksums();
  ring::task<result<void>> write_bitmap();
  ring::task<result<void>> write_tables();
  ring::task<result<void>> complete();
  ring::task<result<void>> sync(const snapshot_file& what);
  ring::task<result<void>> give_name();
  error fail(int errno_value);
  error fail(error why);

  ring::uring_loop& loop_;
  std::string path_;
  std::vector<block_description> blocks_;
  std::vector<std::uint64_t> first_pages_;  ///< of the blocks, in the file
  bool overwrite_;
  snapshot_file file_;
  snapshot_layout layout_;
  snapshot_trailer trailer_;
  std::string blocks_table_;
  snapshot_devices devices_;
  core::bitmap stored_;
  std::unique_ptr<std::uint64_t, freed> checksums_;  ///< of pages; resident only where there are some
  std::array<page_buffer, snapshot_lanes> buffers_;
  ring::mutex turns_;
  std::optional<error> failure_;
  std::uint64_t stored_pages_ = 0;
  std::uint64_t written_bytes_ = 0;
  bool finished_ = false;
};

/// What to say when the filesystem is full. Sizes are bytes.
std::string no_space(std::uint64_t needed_at_most, std::uint64_t written, std::uint64_t free);

}  // namespace tidemark::migrate
