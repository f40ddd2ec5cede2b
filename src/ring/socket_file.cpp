// SPDX-License-Identifier: Apache-2.0

#include "ring/socket_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "ring/descriptor.hpp"

namespace tidemark::ring {

namespace {

error refused(int errno_value, std::string why) {
  return kernel_error(operation::connect_peer, errno_value, {}, std::move(why));
}

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// The directory, locked: nobody else who does so looks at its sockets or binds one meanwhile.
result<descriptor> lock_directory(const std::string& path) {
  const std::string where = directory_of(path);
  descriptor directory(::open(where.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) {
    const int errno_value = errno;
    const char* mend = errno_value == ENOENT ? "; make it first ('mkdir -p')" : "";
    return refused(errno_value, "the directory of the socket, " + where + mend);
  }
  while (::flock(directory.get(), LOCK_EX) < 0) {
    if (errno != EINTR) return refused(errno, "locking " + where);
  }
  return directory;
}

/// Whether somebody listens there. A queue that is full says so, too.
bool answers(const address::place& place) noexcept {
  const descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&place.socket), place.size_bytes) == 0 ||
         errno != ECONNREFUSED;
}

/// Removes the file of a socket that nobody listens at.
result<void> remove_stale(const std::string& path, const address& at) {
  struct stat file {};
  if (::lstat(path.c_str(), &file) < 0) return {};  // it has gone by itself
  if (!S_ISSOCK(file.st_mode)) return refused(EEXIST, path + " is there and is no socket; choose another path");
  if (answers(at.places.front())) {
    return refused(EADDRINUSE, "another process already listens at " + at.text +
                                   "; stop it ('ss -lxp' names it) or choose another path");
  }
  if (::unlink(path.c_str()) < 0) return refused(errno, "removing the stale socket " + path);
  return {};
}

int bind_to(int fd, const address::place& place) noexcept {
  return ::bind(fd, reinterpret_cast<const sockaddr*>(&place.socket), place.size_bytes) < 0 ? errno : 0;
}

}  // namespace

socket_file::socket_file(std::string path) noexcept : path_(std::move(path)) {
  struct stat file {};
  if (::lstat(path_.c_str(), &file) < 0) return;
  device_ = file.st_dev;
  inode_ = file.st_ino;
}

socket_file::~socket_file() {
  struct stat file {};
  if (::lstat(path_.c_str(), &file) == 0 && file.st_dev == device_ && file.st_ino == inode_) ::unlink(path_.c_str());
}

result<std::unique_ptr<socket_file>> socket_file::open(int fd, const address& at) {
  const auto& place = at.places.front();
  std::string path = reinterpret_cast<const sockaddr_un&>(place.socket).sun_path;
  const auto directory = lock_directory(path);
  if (!directory) return directory.error();
  ::fchmod(fd, 0600);  // Linux gives the file the mode that the socket has
  int errno_value = bind_to(fd, place);
  if (errno_value == EADDRINUSE) {
    if (auto removed = remove_stale(path, at); !removed) return removed.error();
    errno_value = bind_to(fd, place);
  }
  if (errno_value != 0) return refused(errno_value, "making the socket " + path);
  std::unique_ptr<socket_file> made(new socket_file(std::move(path)));
  if (::listen(fd, SOMAXCONN) < 0) return refused(errno, "listening at " + at.text);
  return made;
}

}  // namespace tidemark::ring
