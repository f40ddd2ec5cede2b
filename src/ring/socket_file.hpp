// SPDX-License-Identifier: Apache-2.0
//
// The file of a listening UNIX socket: mode 0600 from its first moment on, put in the place of one that nobody listens at
// any more, and removed with its owner.
//
// Threading: one thread at a time. Opening waits for another process that is about to listen in the same directory.
//
// Invariants
//  1. A file that somebody listens at, or that is no socket, is never replaced: whoever looks and binds holds the lock
//     of the directory meanwhile.
//  2. Only our own file is removed, not one that has been put in its place.

#pragma once

#include <sys/types.h>
#include <tidemark/error.hpp>

#include <memory>
#include <string>

#include "ring/address.hpp"

namespace tidemark::ring {

class socket_file {
 public:
  /// Binds `fd` to the path of `at` and listens.
  static result<std::unique_ptr<socket_file>> open(int fd, const address& at);

  socket_file(const socket_file&) = delete;
  /// While the socket is still open: its inode cannot be another file's until then.
  ~socket_file();

 private:
  explicit socket_file(std::string path) noexcept;

  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace tidemark::ring
