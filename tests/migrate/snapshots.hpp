// SPDX-License-Identifier: Apache-2.0
//
// What tests of snapshots share: a folder of their own, a guest's memory beside what a snapshot of it must hold, and tasks
// run to their end. Threading: the test's thread.

#pragma once

#include <sys/stat.h>
#include <boost/test/unit_test.hpp>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "migrate/snapshot_reader.hpp"
#include "migrate/snapshot_writer.hpp"
#include "ring/coroutines.hpp"

namespace tidemark::tests {

using bytes = std::vector<std::byte>;

/// Gone with all that is in it at the end.
class folder {
 public:
  folder() {
    auto pattern = (std::filesystem::temp_directory_path() / "tidemark-snapshot-XXXXXX").string();
    BOOST_TEST_REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  folder(const folder&) = delete;
  ~folder() { std::filesystem::remove_all(path_); }

  std::string file(const std::string& name) const { return path_ / name; }
  const std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
};

template <class T>
T await(ring::uring_loop& loop, ring::task<T> work) {
  std::optional<T> outcome;
  run_on(loop, [](ring::task<T> inner, std::optional<T>& out) -> ring::task<> {
    out.emplace(co_await std::move(inner));
  }(std::move(work), outcome));
  return std::move(*outcome);
}

/// Whole pages for requests, as a guest's are.
class snapshot_guest {
 public:
  explicit snapshot_guest(const std::vector<std::uint64_t>& pages) {
    for (const auto count : pages) {
      const auto size = count * page_bytes;
      memory_.push_back(migrate::make_page_buffer(size));
      std::memset(memory_.back().get(), 0, size);
      blocks.push_back({"ram" + std::to_string(blocks.size()), memory_.back().get(), size});
    }
  }

  std::vector<block_description> descriptions() const {
    std::vector<block_description> list;
    for (const auto& block : blocks) list.push_back({block.name, block.size});
    return list;
  }
  std::vector<page_run> all() const {
    std::vector<page_run> runs;
    for (block_index i = 0; i < blocks.size(); ++i) runs.push_back({i, 0, blocks[i].pages()});
    return runs;
  }
  std::span<std::byte> page(block_index block, std::uint64_t number) const {
    return {blocks[block].host + number * page_bytes, page_bytes};
  }
  /// Bytes that are not zero, and other ones each time.
  void scribble(block_index block, std::uint64_t first, std::uint64_t pages, std::mt19937_64& random) const {
    for (std::uint64_t i = first; i < first + pages; ++i)
      for (auto& byte : page(block, i)) byte = static_cast<std::byte>(1 + random() % 255);
  }
  void clear(block_index block, std::uint64_t first, std::uint64_t pages) const {
    std::memset(page(block, first).data(), 0, pages * page_bytes);
  }
  std::vector<bytes> copy() const {
    std::vector<bytes> all_of_it;
    for (const auto& block : blocks) all_of_it.emplace_back(block.host, block.host + block.size);
    return all_of_it;
  }

  std::vector<ram_block> blocks;

 private:
  std::vector<migrate::page_buffer> memory_;
};

inline bytes random_bytes(std::size_t count, std::mt19937_64& random) {
  bytes made(count);
  for (auto& byte : made) byte = static_cast<std::byte>(random());
  return made;
}

inline std::unique_ptr<migrate::snapshot_writer> make_writer(ring::uring_loop& loop, const std::string& path,
                                                             const snapshot_guest& guest) {
  auto made = migrate::snapshot_writer::make(loop, path, guest.descriptions(), false);
  BOOST_TEST_REQUIRE(made.has_value(), (made ? "" : made.error().message()));
  return std::move(*made);
}

inline void require(const result<void>& done) { BOOST_TEST_REQUIRE(done.has_value(), (done ? "" : done.error().message())); }

/// All of the guest as it is, and these devices' states.
inline void take_snapshot(ring::uring_loop& loop, const std::string& path, const snapshot_guest& guest,
                          const std::vector<std::pair<std::string, bytes>>& states = {}) {
  const auto writer = make_writer(loop, path, guest);
  require(await(loop, writer->write(guest.all(), guest.blocks)));
  for (const auto& [name, state] : states) require(await(loop, writer->write_device(name, state)));
  require(await(loop, writer->finish()));
}

inline auto open_snapshot(ring::uring_loop& loop, const std::string& path) {
  return await(loop, migrate::snapshot_reader::open(loop, path));
}

inline struct stat status_of(const std::string& path) {
  struct stat found {};
  BOOST_TEST_REQUIRE(::stat(path.c_str(), &found) == 0, path);
  return found;
}

inline bool says(const error& why, const std::string& words) { return why.message().find(words) != std::string::npos; }

inline void write_text(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

inline std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

}  // namespace tidemark::tests
