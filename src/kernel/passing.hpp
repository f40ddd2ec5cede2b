// SPDX-License-Identifier: Apache-2.0
//
// A kernel that passes every call on to the one below: what others derive theirs from, changing only the
// calls they mean.
//
// Threading: as the kernel below, which outlives it.

#pragma once

#include <tidemark/kernel.hpp>

namespace tidemark::kernel {

class passing : public files {
 public:
  explicit passing(files& below) noexcept : below_(below) {}

  using files::ioctl;
  int open(const char* path, int flags) noexcept override { return below_.open(path, flags); }
  int close(int fd) noexcept override { return below_.close(fd); }
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    return below_.ioctl(fd, request, argument);
  }
  ssize_t read(int fd, void* buffer, std::size_t size) noexcept override { return below_.read(fd, buffer, size); }
  ssize_t write(int fd, const void* buffer, std::size_t size) noexcept override { return below_.write(fd, buffer, size); }
  ssize_t pread(int fd, void* buffer, std::size_t size, std::uint64_t offset) noexcept override {
    return below_.pread(fd, buffer, size, offset);
  }
  ssize_t pwrite(int fd, const void* buffer, std::size_t size, std::uint64_t offset) noexcept override {
    return below_.pwrite(fd, buffer, size, offset);
  }
  ssize_t readlink(const char* path, char* target, std::size_t size) noexcept override {
    return below_.readlink(path, target, size);
  }

 private:
  files& below_;
};

}  // namespace tidemark::kernel
