// SPDX-License-Identifier: Apache-2.0

#include "kernel/model_file.hpp"

#include <algorithm>

#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {

ssize_t file::read(void*, std::size_t) { return -EINVAL; }
ssize_t file::write(const void*, std::size_t) { return -EINVAL; }
ssize_t file::pread(void*, std::size_t, std::uint64_t) { return -EINVAL; }
ssize_t file::pwrite(const void*, std::size_t, std::uint64_t) { return -EINVAL; }

ssize_t text_file::read(void* buffer, std::size_t bytes) {
  const ssize_t told = pread(buffer, bytes, position_);
  if (told > 0) position_ += static_cast<std::size_t>(told);
  return told;
}

ssize_t text_file::pread(void* buffer, std::size_t bytes, std::uint64_t offset) {
  const std::size_t from = std::min<std::uint64_t>(offset, text_.size());
  const std::size_t told = std::min(bytes, text_.size() - from);
  if (told == 0) return 0;
  const bool there = user::copy_argument_out(reinterpret_cast<std::uintptr_t>(buffer), text_.data() + from, told);
  return there ? static_cast<ssize_t>(told) : -EFAULT;
}

int descriptor_table::install(std::shared_ptr<file> what) {
  files_.emplace(next_, std::move(what));
  return next_++;
}

std::shared_ptr<file> descriptor_table::find(int fd) const {
  const auto at = files_.find(fd);
  return at == files_.end() ? nullptr : at->second;
}

std::shared_ptr<file> descriptor_table::take(int fd) {
  const auto at = files_.find(fd);
  if (at == files_.end()) return nullptr;
  auto taken = std::move(at->second);
  files_.erase(at);
  return taken;
}

}  // namespace tidemark::kernel::modelled
