// SPDX-License-Identifier: Apache-2.0
//
// What a container's kernel side holds: its mappings, by IOVA. Tidemark's own record, since VFIO has no request that lists
// them. An entry is a mapping of the kernel: several that were asked for may be one of them (merged), and one that was asked
// for may be several (cut).
//
// Invariants
//  1. Entries do not meet, are not empty, and do not wrap.
//  2. An entry that `continues` begins where the one before it ends, and was asked for together with it: a range to unmap
//     begins and ends between two that do not.
//
// Cost: a lookup is logarithmic, in nodes of ten entries; under 40 bytes an entry, all told.
//
// Threading: a value; one thread at a time.

#pragma once

#include <absl/container/btree_map.h>
#include <tidemark/error.hpp>

#include <cstddef>
#include <cstdint>

namespace tidemark::dma {

/// Sizes are whole pages, so that what else there is to say fits beside them.
class held_mapping {
 public:
  held_mapping(std::uint64_t size, std::byte* host, bool writable, bool continues) noexcept
      : size_(size | (writable ? writable_bit : 0) | (continues ? continues_bit : 0)), host_(host) {}

  std::uint64_t size() const noexcept { return size_ & ~(writable_bit | continues_bit); }  ///< bytes
  std::byte* host() const noexcept { return host_; }                                       ///< of its first byte
  bool writable() const noexcept { return (size_ & writable_bit) != 0; }
  bool continues() const noexcept { return (size_ & continues_bit) != 0; }  ///< a later piece of what was asked for as one

  void set_continues(bool is) noexcept { size_ = is ? size_ | continues_bit : size_ & ~continues_bit; }

 private:
  static constexpr std::uint64_t writable_bit = 1;
  static constexpr std::uint64_t continues_bit = 2;

  std::uint64_t size_;
  std::byte* host_;
};

class mapping_book {
 public:
  using entries = absl::btree_map<std::uint64_t, held_mapping>;  // by IOVA
  using const_iterator = entries::const_iterator;

  /// The range is free.
  void add(std::uint64_t iova, const held_mapping& what) { entries_.emplace(iova, what); }
  /// Removes every entry that begins in the range. What was a later piece of one of them is a mapping of its own then.
  void remove(iova_range range);
  void clear() noexcept { entries_.clear(); }

  /// The entry that begins there; end() when there is none.
  const_iterator find(std::uint64_t iova) const { return entries_.find(iova); }
  /// The first entry that shares a byte with the range; end() when there is none.
  const_iterator first_in(iova_range range) const;
  bool is_free(iova_range range) const { return first_in(range) == end(); }
  /// The entry because of which a range to unmap may neither begin nor end at `boundary`; end() when it may.
  const_iterator across(std::uint64_t boundary) const;
  /// Whether an unmap of the range would cut something that was asked for as one.
  bool cuts(iova_range range) const;

  const_iterator begin() const noexcept { return entries_.begin(); }
  const_iterator end() const noexcept { return entries_.end(); }
  std::size_t size() const noexcept { return entries_.size(); }

 private:
  entries entries_;
};

}  // namespace tidemark::dma
