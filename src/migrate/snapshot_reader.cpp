// SPDX-License-Identifier: Apache-2.0

#include "migrate/snapshot_reader.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "core/bitmap_words.hpp"

namespace tidemark::migrate {

using ring::task;

namespace {

constexpr std::uint64_t part_pages_max = snapshot_piece_bytes / page_bytes;

error refusal(int errno_value, const std::string& path, const std::string& why) {
  return kernel_error(operation::read_snapshot, errno_value, {}, path + ": " + why);
}

error mistaken(const std::string& path, const std::string& why) {
  return make_error(operation::read_snapshot, errc::region_unknown, {}, path + ": " + why);
}

result<snapshot_file> open_file(const std::string& path) {
  snapshot_file file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) {
    const int errno_value = errno;
    return refusal(errno_value, path, errno_value == EACCES ? "this user may not read it" : "opening it");
  }
  struct stat found {};
  if (::fstat(file.fd(), &found) < 0) return refusal(errno, path, "looking at it");
  if (!S_ISREG(found.st_mode)) return refusal(EINVAL, path, "it is no regular file");
  return file;
}

std::uint64_t bytes_of_file(const snapshot_file& file) noexcept {
  struct stat found {};
  return ::fstat(file.fd(), &found) == 0 ? static_cast<std::uint64_t>(found.st_size) : 0;
}

/// Memory that nobody touched yet stays so.
void clear(std::byte* host, std::uint64_t pages) noexcept {
  constexpr std::size_t words = page_bytes / sizeof(std::uint64_t);
  for (; pages != 0; --pages, host += page_bytes)
    if (core::bitmap_words::first_nonzero(reinterpret_cast<const std::uint64_t*>(host), words) != words)
      std::memset(host, 0, page_bytes);
}

}  // namespace

/// Pages of the file that go to memory, handed out part by part: those that are stored, and those that are to be cleared.
class snapshot_reader::parts {
 public:
  parts(const core::bitmap& stored, std::vector<part> ranges, memory before)
      : stored_(stored), ranges_(std::move(ranges)), before_(before) {}

  std::optional<part> next() noexcept {
    for (; at_ < ranges_.size(); ++at_)
      if (const auto found = take(ranges_[at_]); found.pages != 0) return found;
    return std::nullopt;
  }

 private:
  /// From the front of what is left of a range; no pages: there is nothing in it.
  part take(part& left) const noexcept {
    const auto end = left.page + left.pages;
    const auto run = stored_.next_run(left.page, part_pages_max);
    const auto first = run.length == 0 ? end : std::min(run.first, end);
    const auto hole = first - left.page;
    if (hole != 0 && before_ == memory::used) return cut(left, std::min(hole, part_pages_max), false);
    cut(left, hole, false);
    return cut(left, std::min(run.length, left.pages), true);
  }

  static part cut(part& left, std::uint64_t pages, bool stored) noexcept {
    const part front{left.page, pages, left.host, stored};
    left.page += pages;
    left.pages -= pages;
    left.host += pages * page_bytes;
    return front;
  }

  const core::bitmap& stored_;
  std::vector<part> ranges_;
  memory before_;
  std::size_t at_ = 0;
};

task<result<std::unique_ptr<snapshot_reader>>> snapshot_reader::open(ring::uring_loop& loop, std::string path) {
  auto file = open_file(path);
  if (!file) co_return file.error();
  std::unique_ptr<snapshot_reader> made(new snapshot_reader(loop, std::move(path), std::move(*file)));
  if (auto read = co_await made->read_index(); !read) co_return made->at_path(read.error());
  co_return std::move(made);
}

error snapshot_reader::at_path(error why) const {
  if (!why.detail.starts_with(path_)) why.detail = path_ + ": " + why.detail;
  return why;
}

task<result<void>> snapshot_reader::get(std::uint64_t offset, std::span<std::byte> to) {
  const int answer = co_await file_.read(loop_, offset, to);
  if (answer == ENODATA) co_return at_path(snapshot_damage("it ends before what is read; was it cut off?"));
  if (answer != 0) co_return refusal(answer, path_, "reading it");
  co_return result<void>{};
}

task<result<void>> snapshot_reader::read_index() {
  if (auto read = co_await read_trailer(); !read) co_return read;
  if (auto read = co_await read_blocks(); !read) co_return read;
  if (auto read = co_await read_devices(); !read) co_return read;
  co_return co_await read_bitmap();
}

task<result<void>> snapshot_reader::read_trailer() {
  const auto file_bytes = bytes_of_file(file_);
  snapshot_header header;
  if (file_bytes < sizeof header)
    co_return make_error(operation::read_snapshot, errc::not_a_snapshot, {}, "it is too short to be one");
  if (auto read = co_await get(0, bytes_of(header)); !read) co_return read;
  if (auto good = check_header(header, file_bytes); !good) co_return good;
  if (auto read = co_await get(header.trailer_offset, bytes_of(trailer_)); !read) co_return read;
  if (auto good = check_trailer(trailer_, header.trailer_offset); !good) co_return good;
  layout_ = snapshot_layout::of(trailer_.pages, trailer_.blocks_bytes);
  co_return result<void>{};
}

task<result<std::string>> snapshot_reader::read_table(std::uint64_t offset, std::uint64_t bytes) {
  std::string table(bytes, '\0');
  if (auto read = co_await get(offset, std::as_writable_bytes(std::span(table))); !read) co_return read.error();
  co_return table;
}

task<result<void>> snapshot_reader::read_blocks() {
  const auto table = co_await read_table(layout_.blocks_offset, trailer_.blocks_bytes);
  if (!table) co_return table.error();
  auto blocks = decode_snapshot_blocks(*table, trailer_);
  if (!blocks) co_return blocks.error();
  blocks_ = std::move(*blocks);
  std::uint64_t pages = 0;
  for (const auto& block : blocks_) {
    first_pages_.push_back(pages);
    pages += block.size / page_bytes;
  }
  co_return result<void>{};
}

task<result<void>> snapshot_reader::read_devices() {
  const auto table = co_await read_table(layout_.devices_offset(trailer_.states_bytes), trailer_.devices_bytes);
  if (!table) co_return table.error();
  auto devices = decode_snapshot_devices(*table, trailer_);
  if (!devices) co_return devices.error();
  take_pieces(std::move(*devices));
  co_return result<void>{};
}

void snapshot_reader::take_pieces(snapshot_devices devices) {
  for (auto& name : devices.names) devices_.push_back({std::move(name), 0});
  pieces_.resize(devices_.size());
  auto offset = layout_.states_offset;
  for (const auto& piece : devices.pieces) {
    auto& bytes = devices_[piece.device].bytes;
    pieces_[piece.device].push_back({bytes, offset, piece.checksum, piece.bytes});
    bytes += piece.bytes;
    offset += piece.bytes;
  }
}

task<result<void>> snapshot_reader::read_bitmap() {
  constexpr std::uint64_t words_max = snapshot_piece_bytes / sizeof(std::uint64_t);
  const auto words = core::words_for(layout_.pages);
  std::vector<std::uint64_t> buffer(std::min(words, words_max));
  snapshot_sum sum;
  std::uint64_t told = 0;
  stored_ = core::bitmap(layout_.pages);
  for (std::uint64_t first = 0; first < words; first += words_max) {
    const auto piece = std::span(buffer).first(std::min(words_max, words - first));
    const auto offset = layout_.bitmap_offset + first * sizeof(std::uint64_t);
    if (auto read = co_await get(offset, std::as_writable_bytes(piece)); !read) co_return read;
    sum.add(std::as_bytes(piece));
    for (const auto word : piece) told += static_cast<std::uint64_t>(std::popcount(word));
    const auto page = first * core::bits_per_word;
    stored_.merge(page, std::min(piece.size() * core::bits_per_word, layout_.pages - page), piece);
  }
  if (sum.value() != trailer_.bitmap_checksum) co_return snapshot_damage("the bitmap of pages differs from its checksum");
  if (told != trailer_.stored_pages || told != stored_.count())
    co_return snapshot_damage("the bitmap has not as many pages as its trailer announces");
  co_return result<void>{};
}

task<result<void>> snapshot_reader::read(block_index block, std::uint64_t first_page, std::span<std::byte> to) {
  const auto limit = block < blocks_.size() ? blocks_[block].size / page_bytes : 0;
  const auto pages = to.size() / page_bytes;
  if (first_page > limit || pages > limit - first_page || to.size() % page_bytes != 0)
    co_return mistaken(path_, "not whole pages of one of its RAM blocks");
  std::vector<part> ranges;
  ranges.push_back({first_pages_[block] + first_page, pages, to.data(), false});
  co_return co_await read_ranges(std::move(ranges), memory::used);
}

task<result<void>> snapshot_reader::restore(const std::vector<ram_block>& blocks, memory before) {
  const auto is_same = [](const ram_block& a, const block_description& b) { return a.size == b.size && a.name == b.name; };
  const auto [here, there] = std::mismatch(blocks.begin(), blocks.end(), blocks_.begin(), blocks_.end(), is_same);
  if (there != blocks_.end())
    co_return mistaken(path_, "it has a RAM block " + there->name + " of " + std::to_string(there->size) +
                                  " bytes, where the guest has none of this name and size");
  if (here != blocks.end()) co_return mistaken(path_, "it has no RAM block " + here->name);
  std::vector<part> ranges;
  for (std::size_t i = 0; i < blocks.size(); ++i)
    ranges.push_back({first_pages_[i], blocks[i].pages(), blocks[i].host, false});
  co_return co_await read_ranges(std::move(ranges), before);
}

task<result<void>> snapshot_reader::read_ranges(std::vector<part> ranges, memory before) {
  parts left(stored_, std::move(ranges), before);
  std::optional<error> failure;
  co_await in_lanes([this, &left, &failure](std::size_t) { return read_parts(left, failure); });
  if (failure) co_return *failure;
  co_return result<void>{};
}

task<void> snapshot_reader::read_parts(parts& left, std::optional<error>& failure) {
  for (auto next = left.next(); next && !failure; next = left.next()) {
    const auto read = co_await read_part(*next);
    if (!read && !failure) failure = read.error();
  }
}

task<result<void>> snapshot_reader::read_part(part what) {
  if (!what.stored) {
    clear(what.host, what.pages);
    // Others on the loop take their turn: memory without a stored page may be terabytes.
    co_await loop_.submit([](io_uring_sqe* entry) { io_uring_prep_nop(entry); });
    co_return result<void>{};
  }
  std::array<std::uint64_t, part_pages_max> sums;
  const auto wanted = std::span(sums).first(what.pages);
  if (auto read = co_await get(layout_.checksum_offset(what.page), std::as_writable_bytes(wanted)); !read) co_return read;
  const std::span<std::byte> pages(what.host, what.pages * page_bytes);
  if (auto read = co_await get(snapshot_layout::page_offset(what.page), pages); !read) co_return read;
  std::optional<std::uint64_t> wrong;
  for (std::uint64_t i = 0; i < what.pages; ++i) {
    std::byte* const page = what.host + i * page_bytes;
    if (snapshot_page_checksum(what.page + i, page) == sums[i]) continue;
    std::memset(page, 0, page_bytes);
    if (!wrong) wrong = what.page + i;
  }
  if (wrong) co_return wrong_page(*wrong);
  co_return result<void>{};
}

error snapshot_reader::wrong_page(std::uint64_t page) const {
  const auto block =
      static_cast<std::size_t>(std::upper_bound(first_pages_.begin(), first_pages_.end(), page) - first_pages_.begin() - 1);
  return at_path(snapshot_damage("page " + std::to_string(page - first_pages_[block]) + " of RAM block " +
                                 blocks_[block].name + " differs from its checksum"));
}

task<result<void>> snapshot_reader::read_device(std::size_t index, std::uint64_t from, std::span<std::byte> to) {
  const auto limit = index < devices_.size() ? devices_[index].bytes : 0;
  if (from > limit || to.size() > limit - from) co_return mistaken(path_, "not a part of one of its devices' states");
  if (to.empty()) co_return result<void>{};
  const auto& pieces = pieces_[index];
  auto piece = std::upper_bound(pieces.begin(), pieces.end(), from,
                                [](std::uint64_t place, const state_piece& one) { return place < one.from; }) -
               1;
  for (; !to.empty(); ++piece) {
    const auto skipped = from - piece->from;
    const auto bytes = std::min<std::uint64_t>(piece->bytes - skipped, to.size());
    if (auto read = co_await read_piece(*piece, skipped, to.first(bytes)); !read) co_return read;
    from += bytes;
    to = to.subspan(bytes);
  }
  co_return result<void>{};
}

/// All of a piece is read for any part of it: the checksum is over all of it.
task<result<void>> snapshot_reader::read_piece(const state_piece& piece, std::uint64_t skipped, std::span<std::byte> to) {
  std::vector<std::byte> whole;
  auto place = to;
  if (to.size() != piece.bytes) {
    whole.resize(piece.bytes);
    place = whole;
  }
  if (auto read = co_await get(piece.offset, place); !read) co_return read;
  if (snapshot_checksum(place) != piece.checksum) {
    std::memset(place.data(), 0, place.size());
    co_return at_path(snapshot_damage("a piece of a device's state differs from its checksum"));
  }
  if (!whole.empty()) std::memcpy(to.data(), whole.data() + skipped, to.size());
  co_return result<void>{};
}

}  // namespace tidemark::migrate
