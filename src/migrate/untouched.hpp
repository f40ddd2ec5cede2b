// SPDX-License-Identifier: Apache-2.0
//
// Pages that nobody ever wrote, of RAM blocks whose memory is of a file: holes of that file. They are zero, and need not be
// looked at, which would make pages of them.
//
// Threading: one thread. Kernel interface: lseek(2), SEEK_DATA and SEEK_HOLE.

#pragma once

#include <tidemark/address_space.hpp>

#include <cstdint>
#include <vector>

namespace tidemark::migrate {

class untouched_pages {
 public:
  /// What is said is true at that moment; or, where holes are remembered, was at some moment since forget(): who sends a
  /// page as zero by that has to send it again when it was written later.
  enum class holes : std::uint8_t { asked, remembered };

  explicit untouched_pages(holes how) noexcept : how_(how) {}

  void forget() noexcept { known_.clear(); }

  /// How many pages from this one on nobody has written, `most` at most. 0: somebody may have written it.
  std::uint64_t count(block_index index, const ram_block& block, std::uint64_t page, std::uint64_t most);

 private:
  /// Pages [from, to) that are alike.
  struct stretch {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    bool is_hole = false;
  };
  static stretch ask(const ram_block& block, std::uint64_t page) noexcept;

  holes how_;
  std::vector<stretch> known_;  ///< of each block, the last that was asked for
};

}  // namespace tidemark::migrate
