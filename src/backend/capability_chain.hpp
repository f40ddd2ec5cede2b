// SPDX-License-Identifier: Apache-2.0
//
// Walks the chain of capabilities behind an answer of VFIO, and grows the buffer for answers that are longer than they were
// thought to be. The kernel's bytes are not trusted: a chain that loops or leaves the buffer is an error.
//
// Threading: pure functions of their arguments, but for ask(), which blocks as the ioctl does.

#pragma once

#include <linux/vfio.h>
#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>

#include <cstddef>
#include <cstring>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tidemark::backend {

inline constexpr std::uint32_t answer_bytes_max = 1 << 20;  // a hundred windows take less than 2 KiB

/// Copies the structure at `offset`, if it is whole: the kernel's offsets promise no alignment.
template <class Structure>
bool copy_at(std::span<const std::byte> from, std::size_t offset, Structure& copy) {
  if (offset > from.size() || from.size() - offset < sizeof copy) return false;
  std::memcpy(&copy, from.data() + offset, sizeof copy);
  return true;
}

inline error malformed(operation what, std::string why) {
  return make_error(what, errc::malformed_capability, {}, std::move(why));
}

/// `visit(header, offset)` gives result<void>; each capability comes once. `first` is the answer's cap_offset, 0 for none;
/// capabilities come behind `head_bytes`.
template <class Visit>
result<void> walk_capabilities(operation what, std::span<const std::byte> answer, std::size_t first, std::size_t head_bytes,
                               Visit visit) {
  std::set<std::size_t> visited;
  for (std::size_t offset = first; offset != 0;) {
    if (!visited.insert(offset).second) return malformed(what, "the capability chain loops");
    vfio_info_cap_header header;
    if (offset < head_bytes || !copy_at(answer, offset, header))
      return malformed(what, "the capability chain leaves the buffer");
    if (auto read = visit(header, offset); !read) return read;
    offset = header.next;
  }
  return {};
}

/// Asks with a larger buffer while the kernel raises argsz (R5). `question` is the head as it is asked, argsz apart; the
/// answer begins with the head and holds at least `Head`.
template <class Head>
result<std::vector<std::byte>> ask(kernel::files& kernel, int fd, unsigned long request, const Head& question,
                                   operation what, const std::string& name) {
  std::vector<std::byte> answer(sizeof question);
  for (;;) {
    // The head is written in place: the buffer comes from operator new, so it is aligned for it.
    auto* head = reinterpret_cast<Head*>(answer.data());
    *head = question;
    head->argsz = static_cast<std::uint32_t>(answer.size());
    if (const int code = kernel.ioctl(fd, request, head); code < 0) return kernel_error(what, -code, {}, name);
    if (head->argsz <= answer.size()) return answer;
    if (head->argsz > answer_bytes_max)
      return malformed(what, name + ": the kernel asks for " + std::to_string(head->argsz) + " bytes");
    answer.resize(head->argsz);
  }
}

}  // namespace tidemark::backend
