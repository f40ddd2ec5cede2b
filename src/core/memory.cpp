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
  std::size_t count;
};

/// Of one thread. Trivial, so that it is there to the very end of the thread: other objects that end with the thread may
/// still give memory back.
struct kept {
  std::array<stack, sizes> of_size;
  bool is_emptied_at_end;
  bool ended;
};
constinit thread_local kept own{};

struct at_end_of_thread {
  ~at_end_of_thread() {
    own.ended = true;
    for (auto& one : own.of_size)
      while (one.top != nullptr) ::operator delete(std::exchange(one.top, one.top->next));
  }
};

std::size_t size_of(std::size_t bytes) noexcept { return (bytes - 1) / step_bytes; }

void* take(stack& from) noexcept {
  if (from.top == nullptr) return nullptr;
  --from.count;
  return std::exchange(from.top, from.top->next);
}

bool give(stack& to, void* memory) noexcept {
  if (to.count == kept_max || own.ended) return false;
  if (!own.is_emptied_at_end) {
    static thread_local const at_end_of_thread emptied;
    own.is_emptied_at_end = true;
  }
  ++to.count;
  to.top = new (memory) block{to.top};
  return true;
}

}  // namespace

void* take_memory(std::size_t bytes) {
  const auto size = size_of(bytes);
  if (!keeps || size >= sizes) return ::operator new(bytes);
  void* memory = take(own.of_size[size]);
  return memory != nullptr ? memory : ::operator new((size + 1) * step_bytes);
}

void give_memory(void* memory, std::size_t bytes) noexcept {
  const auto size = size_of(bytes);
  if (!keeps || size >= sizes || !give(own.of_size[size], memory)) ::operator delete(memory);
}

}  // namespace tidemark::detail
