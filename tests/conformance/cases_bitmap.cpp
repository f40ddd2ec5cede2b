// SPDX-License-Identifier: Apache-2.0
//
// What VFIO_IOMMU_DIRTY_PAGES GET writes: which bits for which writes, and which words it leaves alone.

#include <cerrno>

#include "conformance/tracked.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint64_t filled = 0xa5a5a5a5a5a5a5a5;

void only_written(bench& b) {
  const tracked t(b, 4, 4);
  expect(t.word(4, 4), 0, "the bitmap at first");
  t.write(5);
  t.write(7);
  expect(t.word(4, 4), 0b1010, "the bitmap");
  expect(t.word(4, 4), 0, "the bitmap asked for again");
}

void across_pages(bench& b) {
  const tracked t(b, 0, 8);
  expect(ring(b, t.device, 2 * page - 8, page + 16, 1), 0, "a doorbell over three pages");
  expect(t.word(0, 8), 0b1110, "the bitmap");
}

void before_start(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  const auto device = s.device();
  expect(s.map(0, page, ram.address()), 0, "MAP");
  expect(ring(b, device, 0, 8, 1), 0, "a doorbell before START");
  expect(s.start(), 0, "START");
  std::vector<std::uint64_t> words(1);
  expect(s.get(0, page, words), 0, "GET");
  expect(words[0], 0, "the bitmap");
}

void mapped_while_tracking(bench& b) {
  const tracked t(b, 0, 4);
  const memory more(page);
  expect(t.s.map(8 * page, page, more.address()), 0, "MAP while tracking");
  expect(t.word(0, 16), 0, "the bitmap");
  t.write(8);
  expect(t.word(0, 16), 1U << 8, "the bitmap after a doorbell");
}

void failed_doorbell(bench& b) {
  const tracked t(b, 0, 2);
  expect(ring(b, t.device, page, 2 * page, 1), -EINVAL, "a doorbell that leaves the mapping");
  expect(t.word(0, 2), 0b10, "the page before the failing one");
}

void gap_untouched(bench& b) {
  const tracked t(b, 64, 1);
  std::vector<std::uint64_t> words(3, filled);
  expect(t.s.get(0, 192 * page, words), 0, "GET");
  expect(words[0], filled, "the word of a gap before");
  expect(words[1], 0, "the word of the mapping");
  expect(words[2], filled, "the word of a gap behind");
}

void nothing_mapped(bench& b) {
  const tracked t(b, 0, 1);
  std::vector<std::uint64_t> words(1, filled);
  expect(t.s.get(64 * page, 64 * page, words), 0, "GET where nothing is mapped");
  expect(words[0], filled, "the word");
}

void words_overwritten(bench& b) {
  const tracked t(b, 0, 128);
  t.write(1);
  std::vector<std::uint64_t> words(2, filled);
  expect(t.s.get(0, 128 * page, words), 0, "GET");
  expect(words[0], 0b10, "the first word");
  expect(words[1], 0, "the second word");
}

void tail_overwritten(bench& b) {
  const tracked t(b, 0, 4);
  std::vector<std::uint64_t> words(1, filled);
  expect(t.s.get(0, 64 * page, words), 0, "GET");
  expect(words[0], 0, "the word, with its bits beyond the mapping");
}

void leading_word_ored(bench& b) {
  const tracked t(b, 4, 64);
  t.write(5);
  t.write(67);
  std::vector<std::uint64_t> words(2, filled);
  expect(t.s.get(0, 128 * page, words), 0, "GET");
  expect(words[0], filled | (1U << 5), "the word in which the mapping begins");
  expect(words[1], 1U << 3, "the word in which it ends");
}

void several_in_a_word(bench& b) {
  const tracked t(b, 0, 3);
  const memory more(4 * page);
  expect(t.s.map(3 * page, 2 * page, more.address()), 0, "MAP right behind");
  expect(t.s.map(8 * page, page, more.address() + 2 * page), 0, "MAP behind a gap");
  t.write(2);
  t.write(4);
  t.write(8);
  expect(t.word(0, 64), 0b100010100, "the bitmap of all three");
  t.write(3);
  expect(t.word(3, 2) & 0b11, 0b1, "the bits of the second alone");
}

// Type1 shifts a mapping's bitmap in place and clears less than it shifted. What is wrong is only ever too much, and only
// behind the end of a mapping: a reader has to mask.
void stale_bits(bench& b) {
  const tracked t(b, 3, 2);
  t.write(4);
  expect(t.word(0, 64), 0b10000, "the bitmap, shifted by three");
  expect(t.word(3, 2), 0b10000, "the bitmap of the mapping alone: bit 4 is left from before");
  expect(t.word(0, 64), 0b10000000, "the bitmap, shifted again");
  expect(t.s.stop(), 0, "STOP");
  expect(t.s.start(), 0, "START");
  expect(t.word(3, 2), 0, "the bitmap of the mapping alone, after a new START");
}

void stale_bits_across_words(bench& b) {
  const tracked t(b, 4, 62);
  t.write(65);
  std::vector<std::uint64_t> words(2);
  expect(t.s.get(0, 128 * page, words), 0, "GET");
  expect(words[1], 0b10, "the second word");
  words.assign(2, 0);
  expect(t.s.get(0, 128 * page, words), 0, "GET");
  expect(words[0], 0, "the first word asked for again");
  expect(words[1], 0b100000, "the second word asked for again: page 69 was never written");
}

void other_ranges_kept(bench& b) {
  const tracked t(b, 0, 1);
  const memory more(page);
  expect(t.s.map(4 * page, page, more.address()), 0, "MAP");
  t.write(0);
  t.write(4);
  expect(t.word(0, 1), 1, "the bitmap of the first");
  expect(t.word(4, 1), 1, "the bitmap of the second, which the first GET did not ask for");
}

void many_words(bench& b) {
  const tracked t(b, 3, 1000);
  t.write(3);
  t.write(500);
  t.write(1002);
  std::vector<std::uint64_t> words(16);
  expect(t.s.get(0, 1024 * page, words), 0, "GET");
  for (std::uint64_t n = 0; n < 1024; ++n) {
    const bool dirty = (words[n / 64] >> (n % 64) & 1) != 0;
    expect_true(dirty == (n == 3 || n == 500 || n == 1002), "page " + std::to_string(n) + " is as written");
  }
}

void end_of_space(bench& b) {
  const session s = emulated_session(b);
  expect(s.start(), 0, "START");
  std::vector<std::uint64_t> words(1);
  expect(s.get(top - page + 1, page, words), b.since(6, 18) ? 0 : -EINVAL, "GET of the last page of the space");
}

}  // namespace

std::vector<test_case> bitmap_cases() {
  std::vector<test_case> cases = {
      {"dirty: just the pages the device wrote, and only once", only_written},
      {"dirty: a write across pages dirties each", across_pages},
      {"dirty: what was written before START is not recorded", before_start},
      {"dirty: what is mapped while tracking is tracked", mapped_while_tracking},
      {"dirty: a doorbell that fails half-way dirties what it wrote", failed_doorbell},
      {"dirty: GET leaves the words of gaps alone", gap_untouched},
      {"dirty: GET where nothing is mapped writes nothing", nothing_mapped},
      {"dirty: GET overwrites the words of mappings", words_overwritten},
      {"dirty: GET overwrites the last word beyond its mapping", tail_overwritten},
      {"dirty: GET ORs into the word in which a mapping begins", leading_word_ored},
      {"dirty: GET joins several mappings in a word", several_in_a_word},
      {"dirty: GET after a shifted GET reports stale bits behind the mapping", stale_bits},
      {"dirty: GET shifts stale bits on and on, until a new START", stale_bits_across_words},
      {"dirty: GET clears only what it asks for", other_ranges_kept},
      {"dirty: GET of many words, shifted", many_words},
      {"dirty: GET of the end of the space is EINVAL before 6.18", end_of_space},
  };
  for (test_case& one : cases) one.from = {5, 8};
  return cases;
}

}  // namespace tidemark::conformance
