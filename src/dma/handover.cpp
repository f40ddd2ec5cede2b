// SPDX-License-Identifier: Apache-2.0

#include "dma/handover.hpp"

#include <boost/asio/error.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <iterator>
#include <span>
#include <string>
#include <utility>

#include "dma/soundness.hpp"

namespace tidemark::dma {

namespace {

constexpr auto releasing = operation::release_addresses;
constexpr auto renewing = operation::renew_addresses;

iova_range range_of(const mapping_book::const_iterator& entry) { return {entry->first, entry->second.size()}; }

/// How far memory and IOVA are apart, by which memory that moved as a whole is known.
std::uint64_t shift_of(std::uint64_t iova, const void* host) { return std::bit_cast<std::uintptr_t>(host) - iova; }

std::byte* host_at(std::uint64_t iova, std::uint64_t shift) { return std::bit_cast<std::byte*>(iova + shift); }

result<void> check_support(operation what, const container_info& info) {
  if (info.can_release_addresses) return {};
  const bool type1 = info.type == iommu_type::type1v2 || info.type == iommu_type::type1;
  return make_error(what, errc::release_not_supported, {},
                    type1 ? "VFIO_UPDATE_VADDR takes Linux 5.12 or later, and no group with an emulated IOMMU (of mediated "
                            "devices) in the container"
                          : "a " + std::string(name_of(info.type)) + " container has no VFIO_UPDATE_VADDR");
}

// --- renewals ---

error unsound(iova_range at, std::string why) { return kernel_error(renewing, EINVAL, at, std::move(why)); }

/// Each by itself, then one beside the other; sorts them.
result<void> check_moved(std::vector<moved_memory>& all, std::uint64_t page_size) {
  for (const auto& one : all)
    if (!is_sound({.at = one.at, .host = static_cast<std::byte*>(one.host)}, page_size))
      return unsound(one.at,
                     "range and address are whole pages of " + std::to_string(page_size) + " bytes, and do not wrap");
  std::sort(all.begin(), all.end(), [](const moved_memory& a, const moved_memory& b) { return a.at.iova < b.at.iova; });
  const auto twice = std::adjacent_find(
      all.begin(), all.end(), [](const moved_memory& a, const moved_memory& b) { return b.at.iova <= last_of(a.at); });
  if (twice != all.end()) return unsound(std::next(twice)->at, "a part of it is told twice");
  return {};
}

/// What is told, read from the lowest IOVA to the highest.
class reading {
 public:
  explicit reading(const std::vector<moved_memory>& all) : at_(all.begin()), end_(all.end()), iova_(start()) {}

  bool is_at_end() const noexcept { return at_ == end_; }
  std::uint64_t iova() const noexcept { return iova_; }
  std::uint64_t shift() const { return shift_of(at_->at.iova, at_->host); }
  /// What is left of this piece, up to `last`.
  iova_range part(std::uint64_t last) const { return {iova_, std::min(last, last_of(at_->at)) - iova_ + 1}; }

  void skip(const iova_range& part) {
    if (last_of(part) == last_of(at_->at)) {
      ++at_;
      iova_ = start();
    } else {
      iova_ = last_of(part) + 1;
    }
  }

 private:
  std::uint64_t start() const { return at_ == end_ ? 0 : at_->at.iova; }

  std::vector<moved_memory>::const_iterator at_, end_;
  std::uint64_t iova_;
};

error unknown(iova_range at) { return kernel_error(renewing, ENOENT, at, "nothing is mapped there"); }

error missing(iova_range at) {
  return make_error(renewing, errc::addresses_released, at, "where its memory is now has to be told, too");
}

error differs(iova_range part, bool released) {
  return unsound(part, released ? "what is one mapping, or was mapped at once, moves as a whole: its parts lie in memory as "
                                  "they do for devices"
                                : "the mapping has another address, which it was not asked to release");
}

/// Where an entry's memory is to be.
struct expectation {
  bool is_known = false;
  std::uint64_t shift = 0;
};

/// What is told of one entry, all of which it must be if the entry is released. `expected`: known already where it has an
/// address, or goes on from the entry before it; afterwards known of a released one.
result<void> read_entry(reading& told, const mapping_book::const_iterator& entry, expectation& expected) {
  const auto whole = range_of(entry);
  const bool released = entry->second.released();
  auto left = whole;
  while (left.size != 0 && !told.is_at_end() && told.iova() <= last_of(whole)) {
    const auto part = told.part(last_of(whole));
    if (part.iova < whole.iova) return unknown(told.part(whole.iova - 1));
    if (released && part.iova != left.iova) return missing({left.iova, part.iova - left.iova});
    if (expected.is_known && told.shift() != expected.shift) return differs(part, released);
    expected = {true, told.shift()};
    left = {part.iova + part.size, last_of(whole) - last_of(part)};
    told.skip(part);
  }
  if (released && left.size != 0) return missing(left);
  return {};
}

}  // namespace

result<std::vector<renewal>> plan_renewals(const mapping_book& now, std::vector<moved_memory> all, std::uint64_t page_size) {
  if (auto sound = check_moved(all, page_size); !sound) return sound.error();
  std::vector<renewal> list;
  reading told(all);
  expectation expected;
  for (auto entry = now.begin(); entry != now.end(); ++entry) {
    if (!entry->second.released()) {
      expected = {true, shift_of(entry->first, entry->second.host())};
    } else if (!entry->second.continues()) {
      expected = {};
    }
    if (auto read = read_entry(told, entry, expected); !read) return read.error();
    if (entry->second.released()) list.push_back({range_of(entry), host_at(entry->first, expected.shift)});
  }
  if (!told.is_at_end()) return unknown(told.part(~std::uint64_t{0}));
  return list;
}

result<void> renew_addresses(mapping_book& book, backend::iommu& driver, const container_info& info,
                             std::vector<moved_memory> all, const std::atomic<bool>& closing) {
  if (auto supported = check_support(renewing, info); !supported) return supported;
  const auto list = plan_renewals(book, std::move(all), info.page_size());
  if (!list) return list.error();
  for (std::size_t i = 0; i < list->size(); ++i) {
    const auto& [at, host] = (*list)[i];
    auto renewed = closing ? result<void>(error{boost::asio::error::operation_aborted, renewing, at, {}, {}})
                           : driver.renew_address(at, host);
    if (renewed) {
      book.renew(at.iova, host);
      continue;
    }
    auto why = renewed.error();
    why.undone = std::to_string(i) + " below have their addresses, this one and " + std::to_string(list->size() - i - 1) +
                 " above have none";
    return why;
  }
  book.all_renewed();
  return {};
}

// --- releases ---

namespace {

/// Mappings that are released by one ioctl.
struct run {
  iova_range ask;  // empty: everything
  std::uint64_t bytes = 0;
  std::vector<renewal> mappings;  // with the addresses they have
};

/// From the first of them to the last: a gap costs nothing, one that is released already would be refused.
std::vector<run> runs_to_release(const mapping_book& book, bool can_unmap_all) {
  std::vector<run> runs;
  bool in_run = false;
  for (auto entry = book.begin(); entry != book.end(); ++entry) {
    if (entry->second.released()) {
      in_run = false;
      continue;
    }
    const auto at = range_of(entry);
    // All 2^64 bytes are no range.
    if (!in_run || (runs.back().ask.iova == 0 && last_of(at) == ~std::uint64_t{0})) runs.push_back({{at.iova, 0}, 0, {}});
    in_run = true;
    auto& last = runs.back();
    last.ask.size = last_of(at) - last.ask.iova + 1;
    last.bytes += at.size;
    last.mappings.push_back({at, entry->second.host()});
  }
  const bool is_everything = can_unmap_all && runs.size() == 1 && runs.front().mappings.size() == book.size();
  if (is_everything) runs.front().ask = {};
  return runs;
}

/// What error::undone says: the memory has not moved yet.
std::string take_back(std::span<const run> runs, mapping_book& book, backend::iommu& driver) {
  std::size_t left = 0;
  error failure;
  for (const auto& one : runs) {
    for (const auto& [at, host] : one.mappings) {
      const auto renewed = driver.renew_address(at, host);
      if (renewed) continue;
      book.release(at.iova);
      if (left++ == 0) failure = renewed.error();
    }
  }
  if (left == 0) return "every mapping has its address";
  return "not undone: mappings without an address: " + std::to_string(left) + ": " + failure.message();
}

}  // namespace

result<void> release_addresses(mapping_book& book, backend::iommu& driver, const container_info& info) {
  if (auto supported = check_support(releasing, info); !supported) return supported;
  const auto runs = runs_to_release(book, info.can_unmap_all);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const auto released = driver.release_addresses(runs[i].ask);
    if (released && *released == runs[i].bytes) continue;
    auto why = released ? kernel_error(releasing, EIO, runs[i].ask,
                                       "the kernel released " + std::to_string(*released) + " bytes where " +
                                           std::to_string(runs[i].bytes) + " are mapped")
                        : released.error();
    why.undone = take_back(std::span(runs).first(released ? i + 1 : i), book, driver);  // a refused one did nothing
    return why;
  }
  for (const auto& one : runs)
    for (const auto& mapping : one.mappings) book.release(mapping.at.iova);
  return {};
}

result<void> all_have_addresses(const mapping_book& book, operation what) {
  if (!book.may_be_released()) return {};
  const auto without = std::find_if(book.begin(), book.end(), [](const auto& entry) { return entry.second.released(); });
  if (without == book.end()) return {};
  return make_error(what, errc::addresses_released, range_of(without), "renew the addresses first");
}

}  // namespace tidemark::dma
