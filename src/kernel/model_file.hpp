// SPDX-License-Identifier: Apache-2.0
//
// What a descriptor of the model stands for.
//
// Threading: the model's mutex is held around every call and every release.

#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

namespace tidemark::kernel::modelled {

class file : public std::enable_shared_from_this<file> {
 public:
  file() = default;
  virtual ~file() = default;
  file(const file&) = delete;
  file& operator=(const file&) = delete;

  virtual int ioctl(unsigned long request, std::uintptr_t argument) = 0;
  virtual ssize_t read(void* buffer, std::size_t bytes);
  virtual ssize_t write(const void* buffer, std::size_t bytes);
  virtual ssize_t pread(void* buffer, std::size_t bytes, std::uint64_t offset);
  virtual ssize_t pwrite(const void* buffer, std::size_t bytes, std::uint64_t offset);
};

/// A file of sysfs: a line of text.
class text_file final : public file {
 public:
  explicit text_file(std::string text) : text_(std::move(text)) {}
  int ioctl(unsigned long, std::uintptr_t) override { return -ENOTTY; }
  ssize_t read(void* buffer, std::size_t bytes) override;
  ssize_t pread(void* buffer, std::size_t bytes, std::uint64_t offset) override;

 private:
  std::string text_;
  std::size_t position_ = 0;
};

class descriptor_table {
 public:
  int install(std::shared_ptr<file> what);
  std::shared_ptr<file> find(int fd) const;
  /// Takes the file out. Dropping it releases what only it held.
  std::shared_ptr<file> take(int fd);
  std::size_t size() const noexcept { return files_.size(); }

 private:
  int next_ = 1 << 20;
  std::unordered_map<int, std::shared_ptr<file>> files_;
};

}  // namespace tidemark::kernel::modelled
