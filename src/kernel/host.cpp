// SPDX-License-Identifier: Apache-2.0
//
// The real system calls behind the seam. Nothing else in Tidemark makes them on VFIO files.

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

#include <tidemark/kernel.hpp>

namespace tidemark::kernel {
namespace {

// Repeats a call that a signal interrupted before it did anything. VFIO's ioctls that can sleep (pinning waits for a
// killable lock) change nothing when they answer EINTR, so asking again is safe.
template <class Call>
auto retried(Call call) noexcept -> decltype(call()) {
  for (;;) {
    const auto answer = call();
    if (answer >= 0) return answer;
    if (errno != EINTR) return -errno;
  }
}

class host final : public files {
 public:
  using files::ioctl;

  bool has_real_descriptors() const noexcept override { return true; }

  int open(const char* path, int flags) noexcept override {
    return retried([&] { return ::open(path, flags | O_CLOEXEC, 0600); });
  }

  // Never repeated: Linux has released the descriptor even when close answers EINTR, and another thread may own the number
  // by now.
  int close(int fd) noexcept override { return ::close(fd) < 0 ? -errno : 0; }

  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    return retried([&] { return ::ioctl(fd, request, argument); });
  }

  ssize_t read(int fd, void* buffer, std::size_t bytes) noexcept override {
    return retried([&] { return ::read(fd, buffer, bytes); });
  }

  ssize_t write(int fd, const void* buffer, std::size_t bytes) noexcept override {
    return retried([&] { return ::write(fd, buffer, bytes); });
  }

  ssize_t pread(int fd, void* buffer, std::size_t bytes, std::uint64_t offset) noexcept override {
    return retried([&] { return ::pread(fd, buffer, bytes, static_cast<off_t>(offset)); });
  }

  ssize_t pwrite(int fd, const void* buffer, std::size_t bytes, std::uint64_t offset) noexcept override {
    return retried([&] { return ::pwrite(fd, buffer, bytes, static_cast<off_t>(offset)); });
  }

  ssize_t readlink(const char* path, char* target, std::size_t bytes) noexcept override {
    return retried([&] { return ::readlink(path, target, bytes); });
  }
};

}  // namespace

files& host_kernel() noexcept {
  static host* const kernel = new host;  // never destroyed: descriptors may be closed during exit
  return *kernel;
}

}  // namespace tidemark::kernel
