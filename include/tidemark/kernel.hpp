// SPDX-License-Identifier: Apache-2.0
//
// The kernel seam: the whole of what Tidemark asks of an operating system's VFIO files, in the shape of system calls.
//
// Everything above this interface is the same code whoever answers: the host's kernel (`host_kernel()`) or the in-process
// model of it (`kernel_model.hpp`). There is no #ifdef and no test-only branch above it. The structures behind the pointers
// are those of <linux/vfio.h>, unchanged, so that a trace of the calls reads like strace's.
//
// Threading: every function may be called from any thread at the same time, as system calls may. They block as the
// system call does; Tidemark makes those that can take long in a lane, never on an event loop.
//
// Errors: a negative errno (-EINVAL, ...), never errno itself.

#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace tidemark::kernel {

class files {
 public:
  virtual ~files() = default;

  /// open(2). A descriptor >= 0 that only this object understands, or a negative errno.
  virtual int open(const char* path, int flags) noexcept = 0;

  /// close(2). Closing the last descriptor of a VFIO container unmaps and unpins all it held, so it can take as long as an
  /// unmap.
  virtual int close(int fd) noexcept = 0;

  /// ioctl(2). `argument` is the scalar or the address the request takes. The result the kernel gives (VFIO_CHECK_EXTENSION
  /// and VFIO_GROUP_GET_DEVICE_FD return numbers), or a negative errno. Memory named by the argument belongs to the caller;
  /// the kernel uses it only during the call, except what MAP_DMA pins, which it may read and write until the unmap.
  virtual int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept = 0;

  /// read(2) and write(2): on device files these are migration data or, for the test device, its doorbell.
  virtual ssize_t read(int fd, void* buffer, std::size_t bytes) noexcept = 0;
  virtual ssize_t write(int fd, const void* buffer, std::size_t bytes) noexcept = 0;

  /// pread(2) and pwrite(2): regions of a device (configuration space, BARs).
  virtual ssize_t pread(int fd, void* buffer, std::size_t bytes, std::uint64_t offset) noexcept = 0;
  virtual ssize_t pwrite(int fd, const void* buffer, std::size_t bytes, std::uint64_t offset) noexcept = 0;

  /// readlink(2): the bytes written to `target` (never more than `bytes`, not terminated), or a negative errno.
  virtual ssize_t readlink(const char* path, char* target, std::size_t bytes) noexcept = 0;

  /// Whether its descriptors are this process's own, and io_uring may use them beside these calls. False where every call
  /// has to come here: a model, or one that watches or changes another's calls.
  virtual bool has_real_descriptors() const noexcept { return false; }

  int ioctl(int fd, unsigned long request) noexcept { return ioctl(fd, request, std::uintptr_t{0}); }

  template <class Structure>
  int ioctl(int fd, unsigned long request, Structure* argument) noexcept {
    return ioctl(fd, request, reinterpret_cast<std::uintptr_t>(argument));
  }
};

/// The kernel this program runs on. Stateless and never destroyed.
files& host_kernel() noexcept;

/// Owns a descriptor of one `files`; closes it once.
class handle {
 public:
  handle() noexcept = default;
  handle(files& owner, int fd) noexcept : owner_(&owner), fd_(fd) {}
  handle(handle&& other) noexcept : owner_(other.owner_), fd_(std::exchange(other.fd_, -1)) {}
  handle& operator=(handle&& other) noexcept {
    if (this != &other) {
      reset();
      owner_ = other.owner_;
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~handle() { reset(); }

  void reset() noexcept {
    if (fd_ >= 0) owner_->close(std::exchange(fd_, -1));
  }
  /// Gives the descriptor up: whoever takes it closes it.
  int release() noexcept { return std::exchange(fd_, -1); }
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  files* owner_ = nullptr;
  int fd_ = -1;
};

}  // namespace tidemark::kernel
