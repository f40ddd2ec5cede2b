// SPDX-License-Identifier: Apache-2.0

#include <tidemark/memory.hpp>

#include <array>
#include <new>
#include <utility>

namespace tidemark::detail {

namespace {

constexpr std::size_t step_bytes = 64;  // between the sizes that are kept
constexpr std::size_t sizes = 8;        // what is larger is not kept
constexpr std::size_t kept_max = 1024;  // of each size

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool keeps = false;  // what is used after it was given back is to be noticed
#else
constexpr bool keeps = true;
#endif

struct block {
  block* next;
};

struct stack {
  block* top;
  std::size_t room;  // for so many more; 0 also before the first, and when the thread has ended
};

/// Of one thread. Trivial, so that it is there to the very end of the thread: other objects that end with the thread may
/// still give memory back.
struct kept {
  std::array<stack, sizes> of_size;
  bool is_emptied_at_end;
};
constinit thread_local kept own{};

struct at_end_of_thread {
  ~at_end_of_thread() {
    for (auto& one : own.of_size) {
      while (one.top != nullptr) ::operator delete(std::exchange(one.top, one.top->next));
      one.room = 0;
    }
  }
};

std::size_t size_of(std::size_t bytes) noexcept { return (bytes - 1) / step_bytes; }

/// False: nothing more is kept on this thread.
[[gnu::cold]] bool make_room() noexcept {
  if (std::exchange(own.is_emptied_at_end, true)) return false;
  static thread_local const at_end_of_thread emptied;
  for (auto& one : own.of_size) one.room = kept_max;
  return true;
}

}  // namespace

void* take_memory(std::size_t bytes) {
  const auto size = size_of(bytes);
  if (!keeps || size >= sizes) return ::operator new(bytes);
  auto& from = own.of_size[size];
  if (from.top == nullptr) return ::operator new((size + 1) * step_bytes);
  ++from.room;
  return std::exchange(from.top, from.top->next);
}

void give_memory(void* memory, std::size_t bytes) noexcept {
  const auto size = size_of(bytes);
  if (!keeps || size >= sizes) return ::operator delete(memory);
  auto& to = own.of_size[size];
  if (to.room == 0 && !make_room()) return ::operator delete(memory);
  --to.room;
  to.top = new (memory) block{to.top};
}

}  // namespace tidemark::detail
