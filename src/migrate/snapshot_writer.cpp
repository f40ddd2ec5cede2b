// SPDX-License-Identifier: Apache-2.0

#include "migrate/snapshot_writer.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <tuple>
#include <utility>

#include "core/bitmap_words.hpp"

namespace tidemark::migrate {

using ring::task;

namespace {

constexpr std::uint64_t part_pages_max = snapshot_piece_bytes / page_bytes;
constexpr int openings_max = 16;
constexpr const char* partial_suffix = ".partial";

error refusal(int errno_value, const std::string& path, const std::string& why) {
  return kernel_error(operation::write_snapshot, errno_value, {}, path + ": " + why);
}

error cannot(const char* what, int errno_value, const std::string& path) {
  switch (errno_value) {
    case ENOENT:
      return refusal(errno_value, path, "its folder does not exist");
    case EACCES:
    case EPERM:
    case EROFS:
      return refusal(errno_value, path, "this user may not write there");
    case EMFILE:
    case ENFILE:
      return refusal(errno_value, path, "no descriptor left; raise the limit (ulimit -n, LimitNOFILE= of the service)");
    case ELOOP:
      return refusal(errno_value, path, "it is a symbolic link; remove it, or name the file it leads to");
    default:
      return refusal(errno_value, path, what);
  }
}

bool is_snapshot(int fd) noexcept {
  std::uint64_t magic = 0;
  return ::pread(fd, &magic, sizeof magic, 0) == sizeof magic && magic == snapshot_magic;
}

/// Whether what is at `path` may be replaced: nothing, one of our snapshots, or any file that is to be overwritten.
result<void> check_replaceable(const std::string& path, bool overwrite) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) < 0) {
    const int errno_value = errno;
    if (errno_value == ENOENT) return {};
    return cannot("looking for it", errno_value, path);
  }
  if (!S_ISREG(found.st_mode)) return refusal(EEXIST, path, "it is there and no regular file; choose another name");
  if (overwrite) return {};
  const snapshot_file file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (file.is_open() && is_snapshot(file.fd())) return {};
  return refusal(EEXIST, path, "it is there and no snapshot; choose another name, or ask for it to be overwritten");
}

/// The same file as the name leads to now: it may have been finished, and so renamed, before it was locked.
bool is_at(int fd, const std::string& path) noexcept {
  struct stat open {};
  struct stat named {};
  if (::fstat(fd, &open) < 0 || ::lstat(path.c_str(), &named) < 0) return false;
  return open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

/// Locked and empty. What an ended writer left there is used again.
result<snapshot_file> open_partial(const std::string& path, bool overwrite) {
  for (int opening = 0; opening < openings_max; ++opening) {
    // 0600: it holds whatever the guest has in memory.
    snapshot_file file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
    if (!file.is_open()) return cannot("opening it", errno, path);
    struct stat found {};
    if (::fstat(file.fd(), &found) < 0) return cannot("looking at it", errno, path);
    if (!S_ISREG(found.st_mode)) return refusal(EEXIST, path, "it is there and no regular file; remove it");
    if (::flock(file.fd(), LOCK_EX | LOCK_NB) < 0) {
      if (errno != EWOULDBLOCK) return cannot("locking it", errno, path);
      return refusal(EBUSY, path, "a snapshot is being written there already; wait for it, or choose another name");
    }
    if (!is_at(file.fd(), path)) continue;
    if (found.st_size != 0 && !overwrite && !is_snapshot(file.fd()))
      return refusal(EEXIST, path, "it is in the way and no snapshot; remove it, or ask for it to be overwritten");
    if (::ftruncate(file.fd(), 0) < 0) return cannot("emptying it", errno, path);
    return file;
  }
  return refusal(EBUSY, path, "others go on making and removing it");
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string mebibytes(std::uint64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

bool is_zero(const std::byte* page) noexcept {
  constexpr std::size_t words = page_bytes / sizeof(std::uint64_t);
  return core::bitmap_words::first_nonzero(reinterpret_cast<const std::uint64_t*>(page), words) == words;
}

/// Each page at most once: two lanes must never write the same one.
std::vector<page_run> disjoint(std::vector<page_run> runs) {
  const auto meets_next = [](const page_run& a, const page_run& b) {
    return std::tie(a.block, a.first_page) > std::tie(b.block, b.first_page) ||
           (a.block == b.block && a.first_page + a.pages > b.first_page);
  };
  if (std::adjacent_find(runs.begin(), runs.end(), meets_next) == runs.end()) return runs;  // as a dirty stream gives them
  std::sort(runs.begin(), runs.end(), [](const page_run& a, const page_run& b) {
    return std::tie(a.block, a.first_page) < std::tie(b.block, b.first_page);
  });
  std::vector<page_run> merged;
  for (const auto& run : runs) {
    if (merged.empty() || merged.back().block != run.block ||
        merged.back().first_page + merged.back().pages < run.first_page) {
      merged.push_back(run);
      continue;
    }
    auto& last = merged.back();
    last.pages = std::max(last.first_page + last.pages, run.first_page + run.pages) - last.first_page;
  }
  return merged;
}

/// What is to be done with a page of a part.
enum class fate : std::uint8_t { write, punch, leave };

}  // namespace

std::string no_space(std::uint64_t needed_at_most, std::uint64_t written, std::uint64_t free) {
  return "the snapshot takes up to " + mebibytes(needed_at_most) + ", of which " + mebibytes(written) + " are written; " +
         mebibytes(free) + " are free there. Make room, or choose another filesystem";
}

/// The parts of a list of runs, handed out one by one.
class snapshot_writer::parts {
 public:
  parts(const snapshot_writer& owner, std::vector<page_run> runs, const std::vector<ram_block>& blocks)
      : owner_(owner), runs_(std::move(runs)), blocks_(blocks) {}

  std::optional<part> next() noexcept {
    if (at_ == runs_.size()) return std::nullopt;
    const auto& run = runs_[at_];
    const auto page = run.first_page + done_;
    const auto pages = std::min(run.pages - done_, part_pages_max);
    done_ += pages;
    if (done_ == run.pages) {
      ++at_;
      done_ = 0;
    }
    return part{blocks_[run.block].host + page * page_bytes, owner_.first_pages_[run.block] + page, pages};
  }

 private:
  const snapshot_writer& owner_;
  std::vector<page_run> runs_;
  const std::vector<ram_block>& blocks_;
  std::size_t at_ = 0;
  std::uint64_t done_ = 0;  ///< pages of that run
};

snapshot_writer::snapshot_writer(ring::uring_loop& loop, std::string path, std::vector<block_description> blocks,
                                 bool overwrite, snapshot_file file)
    : loop_(loop),
      path_(std::move(path)),
      blocks_(std::move(blocks)),
      overwrite_(overwrite),
      file_(std::move(file)),
      blocks_table_(encode_snapshot_blocks(blocks_)) {
  std::uint64_t pages = 0;
  for (const auto& block : blocks_) {
    first_pages_.push_back(pages);
    pages += block.size / page_bytes;
  }
  layout_ = snapshot_layout::of(pages, blocks_table_.size());
  stored_ = core::bitmap(pages);
  checksums_.reset(static_cast<std::uint64_t*>(std::calloc(pages, sizeof(std::uint64_t))));
  if (!checksums_) throw std::bad_alloc();
  for (auto& buffer : buffers_) buffer = make_page_buffer(snapshot_piece_bytes);
}

result<std::unique_ptr<snapshot_writer>> snapshot_writer::make(ring::uring_loop& loop, std::string path,
                                                               std::vector<block_description> blocks, bool overwrite) {
  if (const auto why = why_not_blocks(blocks); !why.empty()) return refusal(EINVAL, path, why);
  if (auto free = check_replaceable(path, overwrite); !free) return free.error();
  const auto partial = path + partial_suffix;
  auto file = open_partial(partial, overwrite);
  if (!file) return file.error();
  std::unique_ptr<snapshot_writer> made(
      new snapshot_writer(loop, std::move(path), std::move(blocks), overwrite, std::move(*file)));
  const auto header = sealed(snapshot_header{});
  if (::pwrite(made->file_.fd(), &header, sizeof header, 0) != sizeof header) return made->fail(errno);
  return made;
}

void snapshot_writer::abandon() noexcept {
  if (!file_.is_open()) return;
  ::unlink((path_ + partial_suffix).c_str());
  file_.close();
  if (!failure_) failure_ = refusal(ECANCELED, path_, "the snapshot was abandoned");
}

error snapshot_writer::fail(error why) {
  if (!failure_) failure_ = std::move(why);
  return *failure_;
}

error snapshot_writer::fail(int errno_value) {
  if (errno_value != ENOSPC && errno_value != EDQUOT)
    return fail(refusal(errno_value, path_ + partial_suffix, "writing the snapshot"));
  struct statvfs there {};
  std::uint64_t free = 0;
  if (::fstatvfs(file_.fd(), &there) == 0) free = there.f_bavail * there.f_frsize;
  return fail(refusal(
      errno_value, path_ + partial_suffix,
      no_space(layout_.states_offset + trailer_.states_bytes, stored_.count() * page_bytes + trailer_.states_bytes, free)));
}

result<void> snapshot_writer::check_open() const {
  if (failure_) return *failure_;
  if (finished_) return make_error(operation::write_snapshot, errc::closed, {}, path_ + " is finished");
  return {};
}

result<void> snapshot_writer::check(std::span<const page_run> runs, const std::vector<ram_block>& blocks) const {
  const auto is_same = [](const ram_block& a, const block_description& b) { return a.size == b.size; };
  if (!std::equal(blocks.begin(), blocks.end(), blocks_.begin(), blocks_.end(), is_same))
    return make_error(operation::write_snapshot, errc::region_unknown, {}, "the RAM blocks are not those of " + path_);
  for (const auto& run : runs) {
    const auto limit = run.block < blocks.size() ? blocks[run.block].pages() : 0;
    if (run.first_page > limit || run.pages > limit - run.first_page)
      return make_error(operation::write_snapshot, errc::region_unknown, {}, "pages outside the RAM blocks of " + path_);
  }
  return {};
}

task<result<void>> snapshot_writer::write(std::vector<page_run> runs, const std::vector<ram_block>& blocks) {
  const auto turn = co_await turns_.lock();
  if (auto open = check_open(); !open) co_return open;
  if (auto good = check(runs, blocks); !good) co_return good;
  std::erase_if(runs, [](const page_run& run) { return run.pages == 0; });
  parts left(*this, disjoint(std::move(runs)), blocks);
  co_await in_lanes([this, &left](std::size_t lane) { return write_parts(left, lane); });
  stored_pages_ = stored_.count();
  co_return check_open();
}

task<void> snapshot_writer::write_parts(parts& left, std::size_t lane) {
  for (auto next = left.next(); next && !failure_; next = left.next()) {
    const int answer = co_await write_part(*next, buffers_[lane].get());
    if (answer != 0) fail(answer);
  }
}

task<int> snapshot_writer::write_part(part what, std::byte* staging) {
  std::array<fate, part_pages_max> fates;
  for (std::uint64_t i = 0; i < what.pages; ++i) {
    std::byte* const copy = staging + i * page_bytes;
    const auto page = what.page + i;
    std::memcpy(copy, what.host + i * page_bytes, page_bytes);
    const bool zero = is_zero(copy);
    fates[i] = !zero ? fate::write : stored_.test(page) ? fate::punch : fate::leave;
    if (fates[i] != fate::leave) checksums_.get()[page] = zero ? 0 : snapshot_page_checksum(page, copy);
  }
  std::uint64_t end = 0;
  for (std::uint64_t from = 0; from < what.pages; from = end) {
    end = from + 1;
    while (end < what.pages && fates[end] == fates[from]) ++end;
    if (fates[from] == fate::leave) continue;
    const auto offset = snapshot_layout::page_offset(what.page + from);
    const auto bytes = (end - from) * page_bytes;
    int answer = 0;
    if (fates[from] == fate::write) {
      stored_.set(what.page + from, end - from);
      answer = co_await file_.write(loop_, offset, {staging + from * page_bytes, bytes});
      written_bytes_ += bytes;
    } else {
      stored_.clear(what.page + from, end - from);
      answer = co_await file_.punch(loop_, offset, bytes);
      if (answer == EOPNOTSUPP) answer = 0;  // its bit says that the page is zero, whatever the file holds
    }
    if (answer != 0) co_return answer;
  }
  co_return 0;
}

task<result<void>> snapshot_writer::write_device(std::string name, std::span<const std::byte> state) {
  const auto turn = co_await turns_.lock();
  if (auto open = check_open(); !open) co_return open;
  const auto device = device_of(std::move(name));
  if (!device) co_return device.error();
  while (!state.empty()) {
    const auto piece = state.first(std::min<std::size_t>(state.size(), snapshot_piece_bytes));
    if (auto written = co_await write_state(*device, piece); !written) co_return written;
    state = state.subspan(piece.size());
  }
  co_return result<void>{};
}

result<std::uint32_t> snapshot_writer::device_of(std::string name) {
  const auto found = std::find(devices_.names.begin(), devices_.names.end(), name);
  const auto index = static_cast<std::uint32_t>(found - devices_.names.begin());
  if (found != devices_.names.end()) return index;
  if (name.empty() || name.size() > snapshot_name_bytes_max)
    return refusal(EINVAL, path_, "a device's name has 1 to " + std::to_string(snapshot_name_bytes_max) + " bytes");
  if (index == snapshot_devices_max)
    return refusal(EINVAL, path_, "a snapshot has room for " + std::to_string(snapshot_devices_max) + " devices");
  devices_.names.push_back(std::move(name));
  return index;
}

task<result<void>> snapshot_writer::write_state(std::uint32_t device, std::span<const std::byte> state) {
  if (devices_.pieces.size() == snapshot_device_pieces_max)
    co_return fail(refusal(EFBIG, path_,
                           "a snapshot has room for " + std::to_string(snapshot_device_pieces_max) +
                               " pieces of devices' states; give larger ones, up to 512 KiB each"));
  const auto offset = layout_.states_offset + trailer_.states_bytes;
  if (auto written = co_await put(offset, state); !written) co_return written;
  devices_.pieces.push_back({device, static_cast<std::uint32_t>(state.size()), snapshot_checksum(state)});
  trailer_.states_bytes += state.size();
  co_return result<void>{};
}

task<result<void>> snapshot_writer::put(std::uint64_t offset, std::span<const std::byte> from) {
  const int answer = co_await file_.write(loop_, offset, from);
  if (answer != 0) co_return fail(answer);
  co_return result<void>{};
}

task<result<void>> snapshot_writer::sync(const snapshot_file& what) {
  const int answer = co_await what.sync(loop_);
  if (answer != 0) co_return fail(answer);
  co_return result<void>{};
}

task<result<void>> snapshot_writer::finish() {
  const auto turn = co_await turns_.lock();
  if (auto open = check_open(); !open) co_return open;
  trailer_.pages = layout_.pages;
  trailer_.stored_pages = stored_pages_;
  if (auto done = co_await write_checksums(); !done) co_return done;
  if (auto done = co_await write_bitmap(); !done) co_return done;
  if (auto done = co_await write_tables(); !done) co_return done;
  if (auto done = co_await complete(); !done) co_return done;
  if (auto done = co_await give_name(); !done) co_return done;
  finished_ = true;
  co_return result<void>{};
}

/// Where no page is stored, a hole is left.
task<result<void>> snapshot_writer::write_checksums() {
  for (std::uint64_t first = 0; first < layout_.pages; first += core::bits_per_chunk) {
    if (stored_.chunk_count(first / core::bits_per_chunk) == 0) continue;
    const std::span sums(checksums_.get() + first, std::min(core::bits_per_chunk, layout_.pages - first));
    if (auto done = co_await put(layout_.checksum_offset(first), std::as_bytes(sums)); !done) co_return done;
  }
  co_return result<void>{};
}

task<result<void>> snapshot_writer::write_bitmap() {
  constexpr std::uint64_t words_max = snapshot_piece_bytes / sizeof(std::uint64_t);
  const auto words = core::words_for(layout_.pages);
  snapshot_sum sum;
  for (std::uint64_t first = 0; first < words; first += words_max) {
    const std::span piece(reinterpret_cast<std::uint64_t*>(buffers_[0].get()), std::min(words_max, words - first));
    const auto bits = stored_.take_words(first, piece);
    sum.add(std::as_bytes(piece));
    if (bits == 0) continue;
    const auto offset = layout_.bitmap_offset + first * sizeof(std::uint64_t);
    if (auto done = co_await put(offset, std::as_bytes(piece)); !done) co_return done;
  }
  trailer_.bitmap_checksum = sum.value();
  co_return result<void>{};
}

task<result<void>> snapshot_writer::write_tables() {
  const auto devices = encode_snapshot_devices(devices_);
  trailer_.blocks = blocks_.size();
  trailer_.blocks_bytes = blocks_table_.size();
  trailer_.blocks_checksum = snapshot_checksum(std::as_bytes(std::span(blocks_table_)));
  trailer_.devices = devices_.names.size();
  trailer_.device_pieces = devices_.pieces.size();
  trailer_.devices_bytes = devices.size();
  trailer_.devices_checksum = snapshot_checksum(std::as_bytes(std::span(devices)));
  trailer_ = sealed(trailer_);
  if (auto done = co_await put(layout_.blocks_offset, std::as_bytes(std::span(blocks_table_))); !done) co_return done;
  const auto devices_offset = layout_.devices_offset(trailer_.states_bytes);
  if (auto done = co_await put(devices_offset, std::as_bytes(std::span(devices))); !done) co_return done;
  const auto trailer_offset = layout_.trailer_offset(trailer_.states_bytes, trailer_.devices_bytes);
  co_return co_await put(trailer_offset, bytes_of(std::as_const(trailer_)));
}

/// Only what is on the disk is said to be complete.
task<result<void>> snapshot_writer::complete() {
  if (auto done = co_await sync(file_); !done) co_return done;
  snapshot_header header;
  header.state = snapshot_state::complete;
  header.trailer_offset = layout_.trailer_offset(trailer_.states_bytes, trailer_.devices_bytes);
  header.file_bytes = header.trailer_offset + sizeof(snapshot_trailer);
  header = sealed(header);
  if (auto done = co_await put(0, bytes_of(std::as_const(header))); !done) co_return done;
  co_return co_await sync(file_);
}

task<result<void>> snapshot_writer::give_name() {
  // Looked at again: others may have put something there in all that time.
  if (auto free = check_replaceable(path_, overwrite_); !free) co_return fail(free.error());
  const auto folder_path = folder_of(path_);
  const snapshot_file folder(::open(folder_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.is_open()) co_return fail(cannot("opening it", errno, folder_path));
  if (std::rename((path_ + partial_suffix).c_str(), path_.c_str()) < 0)
    co_return fail(cannot("giving the finished snapshot its name", errno, path_));
  file_.close();  // nothing of ours has the other name now
  co_return co_await sync(folder);
}

}  // namespace tidemark::migrate
