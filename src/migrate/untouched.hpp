// SPDX-License-Identifier: Apache-2.0
//
// Pages that nobody ever wrote, of RAM blocks whose memory is of a file: holes of that file. They are zero, and need not be
// looked at, which would make pages of them.
//
// What is said is true when it is asked, or was since forget(): who sends a page as zero by it has to send it again when it
// was written later than that.
//
// Threading: one thread. Kernel interface: lseek(2), SEEK_DATA and SEEK_HOLE.

#pragma once

#include <tidemark/page_run.hpp>

#include <cstdint>
#include <utility>
#include <vector>

namespace tidemark::migrate {

class untouched_pages {
 public:
  /// The files of the blocks, from offset 0, in the blocks' order; empty: there are none. They stay open.
  explicit untouched_pages(std::vector<int> files = {}) : files_(std::move(files)), known_(files_.size()) {}

  /// What is said from here on is true from here on.
  void forget() noexcept { known_.assign(files_.size(), {}); }

  /// How many pages from this one on nobody wrote, `most` at most. 0: somebody may have written it.
  std::uint64_t count(block_index block, std::uint64_t page, std::uint64_t most);

 private:
  /// Pages [from, to) that are alike.
  struct stretch {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    bool is_hole = false;
  };
  static stretch ask(int file, std::uint64_t page) noexcept;

  std::vector<int> files_;
  std::vector<stretch> known_;
};

}  // namespace tidemark::migrate
