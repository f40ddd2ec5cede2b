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

/// How many pages from this one on nobody has written until now, `most` at most. 0: somebody may have written it.
std::uint64_t untouched_now(const ram_block& block, std::uint64_t page, std::uint64_t most) noexcept;

/// The same, remembered. What is said is true when it is asked, or was since forget(): who sends a page as zero by it has to
/// send it again when it was written later than that.
class untouched_pages {
 public:
  /// What is said from here on is true from here on.
  void forget() noexcept { known_.clear(); }

  std::uint64_t count(block_index index, const ram_block& block, std::uint64_t page, std::uint64_t most);

 private:
  /// Pages [from, to) that are alike.
  struct stretch {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    bool is_hole = false;
  };
  static stretch ask(const ram_block& block, std::uint64_t page) noexcept;

  std::vector<stretch> known_;  ///< of each block, the last that was asked for
};

}  // namespace tidemark::migrate
