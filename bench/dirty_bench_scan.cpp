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

using sources = std::span<const bitmap_words>;

/// Takes in what sources tell in turn, slice by slice; then all is taken, so that it is clean for the next time.
class scanner {
 public:
  explicit scanner(std::uint64_t pages) : known_(guest_of(pages)), batch_(batch_pages) {}

  void operator()(sources told) {
    tell(told);
    take();
  }
  void tell(sources told) {
    for (std::uint64_t word = 0; word < told[0].size(); word += slice_words)
      for (const auto& bits : told)
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
  dirty::dirty_union known_;
  std::vector<page_run> batch_;
  std::uint64_t found_ = 0;
};

void copy(sources from, std::vector<bitmap_words>& to) {
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::memcpy(to[i].data(), from[i].data(), from[i].size() * sizeof(std::uint64_t));
    use(to[i][0]);
  }
}

/// The obvious loop: word by word, and in one that is not zero bit by bit. It spares itself the union's bitmap.
class plain_scanner {
 public:
  plain_scanner() { batch_.reserve(batch_pages); }
  void operator()(sources told) {
    found_ = 0;
    start_batch();
    for (std::size_t at = 0; at < told[0].size(); ++at) {
      std::uint64_t word = 0;
      for (const auto& bits : told) word |= bits[at];
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

  std::vector<page_run> batch_;
  std::uint64_t pages_ = 0;  // in the batch
  std::uint64_t found_ = 0;
};

void check_same(const scanner& ours, const plain_scanner& plain) {
  if (ours.found() != plain.found()) throw std::runtime_error("the union and the obvious loop disagree on what is dirty");
}

/// A guest of which bitmaps are told, and copied. Its memory is resident, and is used again for bitmaps of each kind.
class guest {
 public:
  explicit guest(std::uint64_t tebibytes)
      : pages(tebibytes * tebibyte_pages),
        told(sources_max, bitmap_words(core::words_for(pages))),
        copies(told),
        ours(pages) {}

  void fill(shape how, unsigned permille) {
    for (std::size_t i = 0; i < sources_max; ++i) make_bitmap(told[i], how, permille, i + 1);
    ours(told);  // so that the union's memory is resident, too
  }

  std::uint64_t pages;
  std::vector<bitmap_words> told;
  std::vector<bitmap_words> copies;
  scanner ours;
  plain_scanner plain;
};

scan_row measure_row(guest& in, std::size_t count, bool next_to_plain, const evictor& evict) {
  const auto told = std::span<const bitmap_words>(in.told).first(count);
  auto ours = [&] { in.ours(told); };
  auto copying = [&] { copy(told, in.copies); };
  auto plain = [&] { in.plain(told); };
  scan_row row;
  row.sources = static_cast<unsigned>(count);
  const auto note = [&](const auto& took) {
    row.ms = took.seconds[0] * 1e3;
    row.memcpy_ms = took.seconds[1] * 1e3;
    row.gb_per_s = static_cast<double>(count * in.pages / 8) / took.seconds[0] / 1e9;
    row.vs_memcpy = took.vs[1];
  };
  if (next_to_plain) {
    const auto took = in_turn({3, 9, 0.3}, evict, ours, copying, plain);
    check_same(in.ours, in.plain);
    note(took);
    row.plain_ms = took.seconds[2] * 1e3;
    row.vs_plain = took.vs[2];
  } else {
    note(in_turn({3, 3, 0}, evict, ours, copying));
  }
  return row;
}

}  // namespace

void make_bitmap(bitmap_words& bits, shape how, unsigned permille, std::uint64_t seed) {
  std::fill(bits.begin(), bits.end(), permille == 1000 ? ~std::uint64_t{0} : 0);
  if (permille == 0 || permille == 1000) return;
  constexpr auto words = tebibyte_pages / 64;
  if (how == shape::scattered) {
    pick(tebibyte_pages, permille, seed, [&](std::uint64_t page) { bits[page / 64] |= std::uint64_t{1} << (page % 64); });
  } else {
    constexpr auto cluster_words = cluster_pages / 64;
    pick(words / cluster_words, permille, seed, [&](std::uint64_t which) {
      std::fill_n(bits.begin() + static_cast<std::ptrdiff_t>(which * cluster_words), cluster_words, ~std::uint64_t{0});
    });
  }
  for (auto done = words; done < bits.size(); done += words) std::copy_n(bits.data(), words, bits.data() + done);
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
  guest clean(1);
  clean.fill(shape::scattered, 0);
  auto tell = [&] { clean.ours.tell(clean.told); };
  auto copying = [&] { copy(clean.told, clean.copies); };
  return in_turn({21, 21, 0}, evict, tell, copying).vs[1];
}

scan_figures scan(const evictor& evict) {
  guest in(1);
  in.fill(shape::scattered, 10);
  std::vector<double> tell_s;
  std::vector<double> take_s;
  auto tell = [&] { in.ours.tell(in.told); };
  auto take = [&] { in.ours.take(); };
  auto ours = [&] {
    tell_s.push_back(seconds_of(tell));
    take_s.push_back(seconds_of(take));
  };
  auto copying = [&] { copy(in.told, in.copies); };
  auto plain = [&] { in.plain(in.told); };
  const auto next_to_memcpy = in_turn({21, 21, 0}, evict, ours, copying);
  const auto next_to_plain = in_turn({7, 7, 0}, evict, ours, plain);
  check_same(in.ours, in.plain);
  return {next_to_memcpy.vs[1], next_to_plain.vs[1], median(tell_s) * 1e3, median(take_s) * 1e3,
          next_to_memcpy.seconds[1] * 1e3};
}

std::vector<scan_row> scan_rows(const evictor& evict) {
  std::vector<scan_row> rows;
  for (const unsigned tebibytes : {1U, 8U}) {
    guest in(tebibytes);
    for (const auto how : {shape::scattered, shape::clustered}) {
      for (const auto permille : permilles) {
        if (how == shape::clustered && (permille == 0 || permille == 1000)) continue;  // all, or nothing, has no shape
        in.fill(how, permille);
        for (std::size_t count = 1; count <= sources_max; ++count) {
          auto row = measure_row(in, count, tebibytes == 1, evict);
          row.guest_tib = tebibytes;
          row.dirty_percent = permille / 10.0;
          row.how = how;
          rows.push_back(row);
        }
      }
    }
  }
  return rows;
}

}  // namespace tidemark::bench
