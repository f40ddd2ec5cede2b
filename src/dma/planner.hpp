// SPDX-License-Identifier: Apache-2.0
//
// The planner: (mappings now, changes asked for, limits) -> the fewest ioctls with the same effect, in the same order for
// every two changes that overlap. Pure: it asks nobody and changes nothing.
//
//  - Maps that are neighbours in IOVA and in memory, with the same access, become one, as far as their `unit` allows: what
//    is one mapping of the kernel can only be unmapped as one (R19).
//  - A large map is cut into pieces at boundaries that keep huge pages whole, so that others get their turn in between.
//  - A map and the unmap of all of it that came in one batch cancel each other: nobody was told of the mapping.
//  - Unmaps of neighbours become one, and of mappings with nothing mapped in between, where the driver lets an unmap span
//    gaps. One of everything becomes VFIO_DMA_UNMAP_FLAG_ALL, or two halves (R16).
//  - What cannot work is refused before anything is done: misaligned, wrapping, outside the windows (R21), over the mappings
//    that the kernel still allows (R20), meeting or cutting what is there. A transaction is refused whole.
//
// Changes of one batch that do not overlap are carried out in any order. The plan assumes that every step works: the
// carrier of the plan falls back to single changes where one does not.
//
// Whether a change is refused is judged as if the changes were made one after the other, a refused one (and all of a refused
// transaction) not at all:
//  - A map becomes one with its neighbours in the batch when it is reached. From then on they are one mapping: an unmap that
//    names a part of it is refused, as it would be had it come in a later batch.
//  - Changes of one transaction, and those of none among themselves, become one or cancel each other. Those of different
//    transactions keep their order and steps of their own, so that each can be taken back alone.
//  - What a map needs of the mappings available is what is left when it is reached: unmaps before it have given back theirs.
// Carried out are first the unmaps of what the book holds, then the rest in the order of the batch, a map that became one of
// several at the place of the last. That is never more mappings at a time than one after the other.
//
// Threading: pure functions of their arguments; each thread keeps what memory they worked in.

#pragma once

#include <tidemark/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dma/mapping_book.hpp"

namespace tidemark::dma {

/// What is asked for.
struct change {
  enum class kind : std::uint8_t { map, unmap, unmap_everything };

  kind what = kind::map;
  bool writable = true;   ///< of a map
  bool resident = false;  ///< of a map: the caller promises that its memory is there
  /// Neighbours in the batch with the same number, not 0, are carried out all or none.
  std::uint32_t transaction = 0;
  iova_range at{};            ///< of unmap_everything: empty
  std::byte* host = nullptr;  ///< of a map
  /// Of a map, bytes, a power of two: later unmaps name whole aligned units of so many bytes, or the map itself if it is
  /// larger. So neighbours in one unit may become one mapping. 0: they name just what this map names, and nothing is merged.
  std::uint64_t unit = 0;
  /// Of an unmap: where its dirty pages go, so that it has an ioctl of its own. Empty: nobody wants to know.
  std::span<std::uint64_t> dirty{};

  bool is_alone() const noexcept { return !dirty.empty(); }
};

struct plan_limits {
  std::uint64_t page_size = 4096;            ///< of the IOMMU: what everything is a multiple of
  std::span<const iova_range> windows{};     ///< usable IOVAs, ascending; none: all are
  std::uint64_t mappings_available = 65535;  ///< that the kernel allows beside those in the book
  std::uint64_t piece_bytes = 256ULL << 20;  ///< the largest map made in one go, a power of two; where the pieces would be
                                             ///< more than the mappings available, they are larger
  bool can_unmap_all = true;                 ///< VFIO_UNMAP_ALL
  bool can_unmap_gaps = true;                ///< an unmap may span where nothing is mapped
};

/// An ioctl to be made.
struct plan_step {
  change::kind what = change::kind::map;
  iova_range at{};
  std::byte* host = nullptr;
  bool writable = true;
  bool continues = false;             ///< as of a held_mapping
  bool is_just_what_is_held = false;  ///< of an unmap: what it serves names, each, one mapping and no more
  std::uint32_t served = 0;           ///< index in plan::served of the first change that it serves
  std::uint32_t served_count = 0;
};

/// A change that was found not to work.
struct plan_refusal {
  std::uint32_t which = 0;  ///< index of the change
  error why;
};

struct plan {
  std::vector<plan_step> steps;        ///< in the order to carry them out; the pieces of a cut map follow each other
  std::vector<std::uint32_t> served;   ///< indices of changes, by step; the pieces of a cut map share theirs
  std::vector<std::uint32_t> settled;  ///< changes that succeed without an ioctl: a map and the unmap that cancelled it,
                                       ///< an unmap where nothing is
  std::vector<plan_refusal> refused;   ///< in the order of the changes

  std::span<const std::uint32_t> served_by(const plan_step& step) const {
    return std::span(served).subspan(step.served, step.served_count);
  }
  void clear() noexcept;
};

/// Leaves the plan in `into`, whose memory is used again.
void make_plan(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, plan& into);

}  // namespace tidemark::dma
