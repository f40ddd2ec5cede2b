// SPDX-License-Identifier: Apache-2.0
//
// Memory of operations, which come and go by the thousand: each thread keeps what was given back on it for its next ones, up
// to 1024 pieces of a size and 512 bytes a piece. A handler that has an allocator of its own uses that instead.
//
// Threading: any. Memory may be given back on another thread than it was taken on.

#pragma once

#include <cstddef>
#include <memory>

namespace tidemark::detail {

/// Aligned as operator new aligns, which it throws as.
void* take_memory(std::size_t bytes);
/// `bytes` as it was taken.
void give_memory(void* memory, std::size_t bytes) noexcept;

template <class T>
struct recycling_allocator {
  using value_type = T;

  recycling_allocator() noexcept = default;
  template <class U>
  recycling_allocator(const recycling_allocator<U>& /*other*/) noexcept {}

  // What is aligned more strictly than operator new aligns is not kept.
  T* allocate(std::size_t count) {
    if constexpr (alignof(T) > __STDCPP_DEFAULT_NEW_ALIGNMENT__) {
      return std::allocator<T>().allocate(count);
    } else {
      return static_cast<T*>(take_memory(count * sizeof(T)));
    }
  }
  void deallocate(T* memory, std::size_t count) noexcept {
    if constexpr (alignof(T) > __STDCPP_DEFAULT_NEW_ALIGNMENT__) {
      std::allocator<T>().deallocate(memory, count);
    } else {
      give_memory(memory, count * sizeof(T));
    }
  }

  friend bool operator==(const recycling_allocator&, const recycling_allocator&) noexcept { return true; }
};

}  // namespace tidemark::detail
