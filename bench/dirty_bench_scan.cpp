// SPDX-License-Identifier: Apache-2.0

#include "dirty_bench_scan.hpp"

#include <tidemark/address_space.hpp>
#include <tidemark/page_run.hpp>

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <stdexcept>

#include "core/bitmap.hpp"
#include "dirty/dirty_union.hpp"

namespace tidemark::bench {

namespace {

constexpr std::uint64_t cluster_pages = 512;
constexpr std::array<unsigned, 5> permilles{0, 1, 10, 100, 1000};

/// Nothing is read there.
std::byte* nowhere(std::uint64_t at) { return reinterpret_cast<std::byte*>((std::uint64_t{1} << 44) + at); }

std::vector<ram_block> guest_of(std::uint64_t pages) { return {{"ram0", nowhere(0), pages * page_bytes}}; }

/// Calls `dirty` for each of `count` that luck picks, each by itself.
template <class Dirty>
void pick(std::uint64_t count, unsigned permille, std::uint64_t seed, Dirty dirty) {
  std::mt19937_64 random(seed);
  const double log_rest = std::log1p(-(permille / 1e3));
  const auto gap = [&] {
    const double luck = static_cast<double>((random() >> 11) + 1) * 0x1p-53;
    return static_cast<std::uint64_t>(std::log(luck) / log_rest);
  };
  for (std::uint64_t at = gap(); at < count; at += gap() + 1) dirty(at);
}

/// Sources that tell in turn, slice by slice; then all is taken.
class scanned {
 public:
  scanned(std::span<const bitmap_words> sources, std::uint64_t pages)
      : sources_(sources), pages_(pages), known_(guest_of(pages)), batch_(batch_pages) {}

  void operator()() {
    tell();
    take();
  }
  void tell() {
    for (std::uint64_t word = 0; word < core::words_for(pages_); word += slice_words)
      for (const auto& bits : sources_)
        use(known_.merge(0, word * 64, slice_words * 64, std::span(bits).subspan(word, slice_words)));
  }
  void take() {
    dirty::dirty_union::position at;
    found_ = 0;
    while (const auto pages = known_.take(at, batch_pages, batch_).pages) {
      use(batch_[0]);
      found_ += pages;
    }
  }
  std::uint64_t found() const noexcept { return found_; }

 private:
  std::span<const bitmap_words> sources_;
  std::uint64_t pages_;
  dirty::dirty_union known_;
  std::vector<page_run> batch_;
  std::uint64_t found_ = 0;
};

class copied {
 public:
  explicit copied(std::span<const bitmap_words> sources) : from_(sources), to_(sources.begin(), sources.end()) {}
  void operator()() {
    for (std::size_t i = 0; i < from_.size(); ++i) {
      std::memcpy(to_[i].data(), from_[i].data(), from_[i].size() * sizeof(std::uint64_t));
      use(to_[i][0]);
    }
  }

 private:
  std::span<const bitmap_words> from_;
  std::vector<bitmap_words> to_;
};

/// The obvious loop: word by word, and in one that is not zero bit by bit. It spares itself the union's bitmap.
class plainly_scanned {
 public:
  explicit plainly_scanned(std::span<const bitmap_words> sources) : sources_(sources) { batch_.reserve(batch_pages); }
  void operator()() {
    found_ = 0;
    start_batch();
    for (std::size_t at = 0; at < sources_[0].size(); ++at) {
      std::uint64_t word = 0;
      for (const auto& bits : sources_) word |= bits[at];
      if (word == 0) continue;
      for (std::uint64_t bit = 0; bit < 64; ++bit)
        if ((word >> bit & 1) != 0) add(at * 64 + bit);
    }
    start_batch();
  }
  std::uint64_t found() const noexcept { return found_; }

 private:
  void start_batch() {
    use(batch_.data());
    batch_.clear();
    found_ += pages_;
    pages_ = 0;
  }
  void add(std::uint64_t page) {
    if (pages_ == batch_pages) start_batch();
    ++pages_;
    if (!batch_.empty() && batch_.back().first_page + batch_.back().pages == page) {
      ++batch_.back().pages;
    } else {
      batch_.push_back({0, page, 1});
    }
  }

  std::span<const bitmap_words> sources_;
  std::vector<page_run> batch_;
  std::uint64_t pages_ = 0;  // in the batch
  std::uint64_t found_ = 0;
};

void check_same(const scanned& ours, const plainly_scanned& naive) {
  if (ours.found() != naive.found()) throw std::runtime_error("the union and the obvious loop disagree on what is dirty");
}

std::vector<bitmap_words> make_sources(std::uint64_t pages, shape how, unsigned permille) {
  std::vector<bitmap_words> made;
  for (std::size_t i = 0; i < sources_max; ++i) made.push_back(make_bitmap(pages, how, permille, i + 1));
  return made;
}

scan_row row_of(std::uint64_t tebibytes, shape how, unsigned permille, std::size_t sources) {
  scan_row row;
  row.guest_tib = static_cast<unsigned>(tebibytes);
  row.dirty_percent = permille / 10.0;
  row.how = how;
  row.sources = static_cast<unsigned>(sources);
  return row;
}

void fill(scan_row& row, std::uint64_t bytes, double ours_s, double memcpy_s, double vs_memcpy) {
  row.ms = ours_s * 1e3;
  row.memcpy_ms = memcpy_s * 1e3;
  row.gb_per_s = static_cast<double>(bytes) / ours_s / 1e9;
  row.vs_memcpy = vs_memcpy;
}

/// A row, or none where it would say what another one does: all, or nothing, has no shape.
void add_rows(std::vector<scan_row>& rows, std::uint64_t tebibytes, shape how, unsigned permille, const evictor& evict) {
  if (how == shape::clustered && (permille == 0 || permille == 1000)) return;
  const auto pages = tebibytes * tebibyte_pages;
  const auto all = make_sources(pages, how, permille);
  for (std::size_t sources = 1; sources <= sources_max; ++sources) {
    const auto told = std::span(all).first(sources);
    const auto bytes = sources * pages / 8;
    auto row = row_of(tebibytes, how, permille, sources);
    scanned ours(told, pages);
    copied other(told);
    ours();  // its memory becomes resident
    if (tebibytes == 1) {
      plainly_scanned naive(told);
      const auto took = in_turn({3, 9, 0.3}, evict, ours, other, naive);
      fill(row, bytes, took.seconds[0], took.seconds[1], took.vs[1]);
      row.vs_naive = took.vs[2];
      check_same(ours, naive);
    } else {
      const auto took = in_turn({3, 3, 0}, evict, ours, other);
      fill(row, bytes, took.seconds[0], took.seconds[1], took.vs[1]);
    }
    rows.push_back(row);
  }
}

}  // namespace

bitmap_words make_bitmap(std::uint64_t pages, shape how, unsigned permille, std::uint64_t seed) {
  bitmap_words bits(core::words_for(pages), permille == 1000 ? ~std::uint64_t{0} : 0);
  if (permille == 0 || permille == 1000) return bits;
  constexpr auto words = tebibyte_pages / 64;
  if (how == shape::scattered) {
    pick(tebibyte_pages, permille, seed, [&](std::uint64_t page) { bits[page / 64] |= std::uint64_t{1} << (page % 64); });
  } else {
    constexpr auto cluster_words = cluster_pages / 64;
    pick(words / cluster_words, permille, seed, [&](std::uint64_t which) {
      std::fill_n(bits.begin() + static_cast<std::ptrdiff_t>(which * cluster_words), cluster_words, ~std::uint64_t{0});
    });
  }
  for (auto done = words; done < bits.size(); done += words)
    std::memcpy(bits.data() + done, bits.data(), words * sizeof(std::uint64_t));
  return bits;
}

double stream_clean_us(const evictor& evict) {
  std::vector<ram_block> blocks;
  for (unsigned i = 0; i < 8; ++i) {
    constexpr auto bytes = tebibyte_pages * page_bytes;
    blocks.push_back({"ram" + std::to_string(i), nowhere(i * bytes), bytes});
  }
  dirty::dirty_union known(blocks);
  std::vector<page_run> batch(batch_pages);
  auto walk = [&] {
    dirty::dirty_union::position at;
    while (known.take(at, batch_pages, batch).pages != 0) use(batch[0]);
  };
  return in_turn({21, 21, 0}, evict, walk).seconds[0] * 1e6;
}

double merge_clean_vs_memcpy(const evictor& evict) {
  const auto clean = make_sources(tebibyte_pages, shape::scattered, 0);
  scanned ours(clean, tebibyte_pages);
  copied other(clean);
  auto tell = [&] { ours.tell(); };
  return in_turn({21, 21, 0}, evict, tell, other).vs[1];
}

scan_figures scan(const evictor& evict) {
  const auto told = make_sources(tebibyte_pages, shape::scattered, 10);
  scanned ours(told, tebibyte_pages);
  copied other(told);
  plainly_scanned naive(told);
  ours();
  const auto next_to_memcpy = in_turn({21, 21, 0}, evict, ours, other);
  const auto next_to_naive = in_turn({7, 7, 0}, evict, ours, naive);
  check_same(ours, naive);
  std::vector<double> tell_s;
  std::vector<double> take_s;
  for (int i = 0; i < 9; ++i) {
    auto tell = [&] { ours.tell(); };
    auto take = [&] { ours.take(); };
    evict();
    tell_s.push_back(seconds_of(tell));
    take_s.push_back(seconds_of(take));
  }
  return {next_to_memcpy.vs[1], next_to_naive.vs[1], median(tell_s) * 1e3, median(take_s) * 1e3,
          next_to_memcpy.seconds[1] * 1e3};
}

std::vector<scan_row> scan_rows(const evictor& evict) {
  std::vector<scan_row> rows;
  for (const std::uint64_t tebibytes : {1U, 8U})
    for (const auto how : {shape::scattered, shape::clustered})
      for (const auto permille : permilles) add_rows(rows, tebibytes, how, permille, evict);
  return rows;
}

}  // namespace tidemark::bench
