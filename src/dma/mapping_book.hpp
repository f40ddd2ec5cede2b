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
//  3. Entries stand in leaves of up to 64, in their order, and the leaves in a tree, by an IOVA that no entry of the leaf is
//     below and all of the leaf before are. The first leaf's is 0. No leaf is empty, but the only one.
//
// Cost: a million mappings are some twenty thousand leaves, whose tree stays in a processor's cache: a lookup misses the
// cache for the leaf alone, and for a batch prefetch() has all of its misses at once. About 33 bytes an entry, all told.
//
// Threading: a value; one thread at a time.

#pragma once

#include <absl/container/btree_map.h>
#include <tidemark/error.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>

namespace tidemark::dma {

/// Sizes are whole pages, so that what else there is to say fits beside them.
class held_mapping {
 public:
  held_mapping() noexcept = default;
  held_mapping(std::uint64_t size, std::byte* host, bool writable, bool continues) noexcept
      : size_(size | (writable ? writable_bit : 0) | (continues ? continues_bit : 0)), host_(host) {}

  std::uint64_t size() const noexcept { return size_ & ~(writable_bit | continues_bit | released_bit); }  ///< bytes
  std::byte* host() const noexcept { return host_; }  ///< of its first byte
  bool writable() const noexcept { return (size_ & writable_bit) != 0; }
  bool continues() const noexcept { return (size_ & continues_bit) != 0; }  ///< a later piece of what was asked for as one

  bool released() const noexcept { return (size_ & released_bit) != 0; }  ///< its memory may be elsewhere than at host()

  void set_continues(bool is) noexcept { size_ = is ? size_ | continues_bit : size_ & ~continues_bit; }
  void release() noexcept { size_ |= released_bit; }
  void renew(std::byte* host) noexcept {
    size_ &= ~released_bit;
    host_ = host;
  }

 private:
  static constexpr std::uint64_t writable_bit = 1;
  static constexpr std::uint64_t continues_bit = 2;
  static constexpr std::uint64_t released_bit = 4;

  std::uint64_t size_ = 0;
  std::byte* host_ = nullptr;
};

class mapping_book {
  static constexpr std::uint32_t leaf_max = 64;
  static constexpr std::uint32_t leaf_full = 48;  // of the last one: leaves room for what comes in between
  static constexpr std::uint32_t leaf_few = 16;   // joins a neighbour

  struct leaf {
    std::uint32_t count = 0;
    std::array<std::uint64_t, leaf_max> iovas;
    std::array<held_mapping, leaf_max> held;

    std::uint32_t count_before(std::uint64_t iova) const noexcept;
    void insert(std::uint32_t at, std::uint64_t iova, const held_mapping& what) noexcept;
    void erase(std::uint32_t from, std::uint32_t to) noexcept;
    void take_from(leaf& other, std::uint32_t from) noexcept;
  };
  using leaves = absl::btree_map<std::uint64_t, std::unique_ptr<leaf>>;

 public:
  struct entry {
    std::uint64_t first;  ///< IOVA
    held_mapping second;
  };

  /// Valid until the book changes.
  class const_iterator {
   public:
    using iterator_category = std::bidirectional_iterator_tag;
    using value_type = entry;
    using difference_type = std::ptrdiff_t;
    using reference = entry;
    struct pointer {
      entry here;
      const entry* operator->() const noexcept { return &here; }
    };

    const_iterator() = default;
    entry operator*() const { return {in_->second->iovas[at_], in_->second->held[at_]}; }
    pointer operator->() const { return {**this}; }
    const_iterator& operator++() {
      if (++at_ == in_->second->count) ++in_, at_ = 0;
      return *this;
    }
    const_iterator& operator--() {
      if (at_ == 0) at_ = (--in_)->second->count;
      --at_;
      return *this;
    }
    friend bool operator==(const const_iterator&, const const_iterator&) = default;

   private:
    friend class mapping_book;
    const_iterator(leaves::const_iterator in, std::uint32_t at) : in_(in), at_(at) {}

    leaves::const_iterator in_;
    std::uint32_t at_ = 0;
  };

  mapping_book() { clear(); }

  /// The range is free.
  void add(std::uint64_t iova, const held_mapping& what);
  /// Removes every entry that begins in the range. What was a later piece of one of them is a mapping of its own then.
  void remove(iova_range range);
  void clear();

  // Host addresses that go and come (VFIO_UPDATE_VADDR). The entry that begins there is in the book.
  void release(std::uint64_t iova) {
    at(iova).release();
    may_be_released_ = true;
  }
  void renew(std::uint64_t iova, std::byte* host) { at(iova).renew(host); }
  /// Every entry has its address.
  void all_renewed() noexcept { may_be_released_ = false; }
  /// False: every entry has its address. True: look at them.
  bool may_be_released() const noexcept { return may_be_released_; }

  /// The entry that begins there; end() when there is none.
  const_iterator find(std::uint64_t iova) const;
  /// The first entry that shares a byte with the range; end() when there is none.
  const_iterator first_in(iova_range range) const;
  bool is_free(iova_range range) const { return first_in(range) == end(); }
  /// The last of the IOVAs that are free from this one on; nothing when it is mapped.
  std::optional<std::uint64_t> last_free(std::uint64_t from) const;
  /// The entry because of which a range to unmap may neither begin nor end at `boundary`; end() when it may.
  const_iterator across(std::uint64_t boundary) const;
  /// Whether an unmap of the range would cut something that was asked for as one.
  bool cuts(iova_range range) const;

  /// The entries around are soon asked for.
  void prefetch(std::uint64_t iova) const;

  const_iterator begin() const noexcept { return size_ == 0 ? end() : const_iterator(leaves_.begin(), 0); }
  const_iterator end() const noexcept { return {leaves_.end(), 0}; }
  std::size_t size() const noexcept { return size_; }
  /// Of the leaves, which are nearly all there is.
  std::size_t bytes() const noexcept { return leaves_.size() * sizeof(leaf); }

 private:
  /// The leaf that an entry at this IOVA is in, or would be.
  leaves::const_iterator leaf_of(std::uint64_t iova) const {
    return leaves_.size() == 1 ? leaves_.begin() : std::prev(leaves_.upper_bound(iova));
  }
  leaves::iterator leaf_of(std::uint64_t iova) {
    return leaves_.size() == 1 ? leaves_.begin() : std::prev(leaves_.upper_bound(iova));
  }
  held_mapping& at(std::uint64_t iova) {
    auto& in = *leaf_of(iova)->second;
    return in.held[in.count_before(iova)];
  }
  const_iterator lower_bound(std::uint64_t iova) const;
  leaves::iterator split(leaves::iterator full, std::uint64_t iova);
  leaves::iterator erase_leaf(leaves::iterator empty);
  void close_up(leaves::iterator few);
  bool join_with_next(leaves::iterator which);

  leaves leaves_;
  std::size_t size_ = 0;
  bool may_be_released_ = false;
};

}  // namespace tidemark::dma
