// SPDX-License-Identifier: Apache-2.0

#include "ring/socket_stream.hpp"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "ring/descriptor_stream.hpp"

namespace tidemark::ring {

namespace {

using detail::closed_here;
using detail::shared_socket;

constexpr std::size_t parts_max = 1024;
constexpr std::size_t descriptors_max = descriptor_stream::descriptors_max;

// --- bytes ---

error transfer_error(operation what, detail::socket& socket, int answer) {
  if (socket.closed()) return closed_here(what);
  answer = socket.first_failure(answer);
  switch (-answer) {
    case 0:
      return make_error(what, errc::peer_closed, {}, "the peer closed the connection; its log says why");
    case ECONNRESET:
    case EPIPE:
      return make_error(what, errc::peer_closed, {},
                        "the peer reset the connection: it has ended or died; its log says why");
    case ETIMEDOUT:
      return kernel_error(what, ETIMEDOUT, {}, "the peer, or the network on the way to it, stopped answering");
    default:
      return kernel_error(what, -answer);
  }
}

// Moves all bytes of `parts` through the socket. `prepare` is io_uring_prep_sendmsg or _recvmsg: without MSG_WAITALL, where
// the ring answers a short count and forgets the failure behind it.
template <class Prepare>
task<result<void>> transfer(uring_loop& owner, shared_socket socket, std::span<iovec> parts, operation what,
                            Prepare prepare) {
  if (!socket || socket->closed()) co_return closed_here(what);
  parts = consume(parts, 0);
  while (!parts.empty()) {
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = std::min(parts.size(), parts_max);
    const int answer = co_await owner.submit([&](io_uring_sqe* entry) { prepare(entry, socket->fd(), &message); });
    if (answer == -EINTR) continue;
    if (answer <= 0) co_return transfer_error(what, *socket, answer);
    parts = consume(parts, static_cast<std::size_t>(answer));
  }
  co_return result<void>{};
}

task<result<std::size_t>> receive_some(uring_loop& owner, shared_socket socket, std::span<std::byte> into) {
  if (!socket || socket->closed()) co_return closed_here(operation::receive);
  if (into.empty()) co_return std::size_t{0};
  for (;;) {
    const int answer = co_await owner.submit(
        [&](io_uring_sqe* entry) { io_uring_prep_recv(entry, socket->fd(), into.data(), into.size(), 0); });
    if (answer > 0) co_return static_cast<std::size_t>(answer);
    if (answer != -EINTR) co_return transfer_error(operation::receive, *socket, answer);
  }
}

// --- descriptors ---

/// A message of one byte with room for descriptors beside it. Pinned: it points into itself.
class descriptor_message {
 public:
  explicit descriptor_message(std::size_t room) noexcept {
    header_.msg_iov = &part_;
    header_.msg_iovlen = 1;
    header_.msg_control = control_.data();
    header_.msg_controllen = CMSG_SPACE(room * sizeof(int));
  }
  descriptor_message(const descriptor_message&) = delete;

  void put(std::span<const int> those) noexcept {
    cmsghdr* head = CMSG_FIRSTHDR(&header_);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(those.size_bytes());
    std::memcpy(CMSG_DATA(head), those.data(), those.size_bytes());
  }

  std::vector<descriptor> take() {
    std::vector<descriptor> all;
    all.reserve(descriptors_max);  // from here on nothing throws
    for (cmsghdr* head = CMSG_FIRSTHDR(&header_); head != nullptr; head = CMSG_NXTHDR(&header_, head)) {
      if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
      for (std::size_t at = 0; CMSG_LEN((at + 1) * sizeof(int)) <= head->cmsg_len; ++at) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(head) + at * sizeof fd, sizeof fd);
        all.emplace_back(fd);
      }
    }
    return all;
  }

  /// The kernel had more than there was room for in here, or in this process.
  bool cut() const noexcept { return (header_.msg_flags & MSG_CTRUNC) != 0; }
  msghdr* header() noexcept { return &header_; }

 private:
  char byte_ = 0;
  iovec part_{&byte_, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(descriptors_max * sizeof(int))> control_{};
  msghdr header_{};
};

std::string of_descriptors(std::size_t count) {
  return std::to_string(count) + (count == 1 ? " descriptor" : " descriptors");
}

error wrong_count(std::size_t came, bool cut, std::size_t due) {
  if (cut && came < descriptors_max) {
    return kernel_error(operation::receive, EMFILE, {},
                        "the peer sent descriptors and this process can hold no more; raise its limit (ulimit -n, "
                        "LimitNOFILE= of the service)");
  }
  const std::string what = cut ? "more than " + of_descriptors(came) : came == 0 ? "none" : of_descriptors(came);
  return make_error(operation::receive, errc::protocol, {},
                    "the peer sent " + what + " where " + of_descriptors(due) + " were due");
}

result<void> check_count(operation what, std::size_t count) {
  if (count >= 1 && count <= descriptors_max) return {};
  return kernel_error(what, EINVAL, {},
                      "a message takes 1 to " + of_descriptors(descriptors_max) + ", not " + std::to_string(count));
}

task<result<void>> send_message(uring_loop& owner, shared_socket socket, std::span<const int> those) {
  if (auto fits = check_count(operation::send, those.size()); !fits) co_return fits;
  if (!socket || socket->closed()) co_return closed_here(operation::send);
  descriptor_message message(those.size());
  message.put(those);
  for (;;) {
    const int answer = co_await owner.submit(
        [&](io_uring_sqe* entry) { io_uring_prep_sendmsg(entry, socket->fd(), message.header(), MSG_NOSIGNAL); });
    if (answer == 1) co_return result<void>{};
    if (answer == -EBADF) co_return kernel_error(operation::send, EBADF, {}, "one of the descriptors to send is not open");
    if (answer != -EINTR) co_return transfer_error(operation::send, *socket, answer);
  }
}

// The ring only says when there is a message: descriptors in its answer would be lost if the loop ended before somebody
// took them.
task<result<std::vector<descriptor>>> receive_message(uring_loop& owner, shared_socket socket, std::size_t due) {
  if (auto fits = check_count(operation::receive, due); !fits) co_return fits.error();
  for (;;) {
    if (!socket || socket->closed()) co_return closed_here(operation::receive);
    descriptor_message message(descriptors_max);
    const auto answer = ::recvmsg(socket->fd(), message.header(), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (answer > 0) {
      auto came = message.take();
      if (came.size() != due || message.cut()) co_return wrong_count(came.size(), message.cut(), due);
      co_return came;
    }
    const int errno_value = answer == 0 ? 0 : errno;
    if (errno_value == EAGAIN) {
      co_await owner.submit([&socket](io_uring_sqe* entry) { io_uring_prep_poll_add(entry, socket->fd(), POLLIN); });
    } else if (errno_value != EINTR) {
      co_return transfer_error(operation::receive, *socket, -errno_value);
    }
  }
}

/// Both kinds: `Base` is what it is to others.
template <class Base>
class socket_stream : public Base {
 public:
  socket_stream(uring_loop& owner, shared_socket socket) noexcept : owner_(owner), socket_(std::move(socket)) {}
  ~socket_stream() override { socket_stream::close(); }

  task<result<void>> write(std::span<iovec> parts) override {
    return transfer(owner_, socket_, parts, operation::send, [](io_uring_sqe* entry, int fd, const msghdr* message) {
      io_uring_prep_sendmsg(entry, fd, message, MSG_NOSIGNAL);
    });
  }

  task<result<void>> read(std::span<iovec> parts) override {
    return transfer(owner_, socket_, parts, operation::receive,
                    [](io_uring_sqe* entry, int fd, msghdr* message) { io_uring_prep_recvmsg(entry, fd, message, 0); });
  }

  task<result<std::size_t>> read_some(std::span<std::byte> into) override { return receive_some(owner_, socket_, into); }

  void end_writing() noexcept override {
    if (socket_) socket_->end_writing();
  }
  void close() noexcept override {
    if (auto socket = std::exchange(socket_, nullptr)) socket->close();
  }

 protected:
  uring_loop& owner_;
  shared_socket socket_;
};

class unix_stream final : public socket_stream<descriptor_stream> {
 public:
  using socket_stream::socket_stream;

  task<result<void>> send_descriptors(std::span<const int> those) override { return send_message(owner_, socket_, those); }
  task<result<std::vector<descriptor>>> receive_descriptors(std::size_t count) override {
    return receive_message(owner_, socket_, count);
  }
};

}  // namespace

error detail::closed_here(operation what) { return make_error(what, errc::closed, {}, "this side closed the connection"); }

std::unique_ptr<byte_stream> detail::make_stream(uring_loop& owner, shared_socket connected, int family) {
  if (family == AF_UNIX) return std::make_unique<unix_stream>(owner, std::move(connected));
  return std::make_unique<socket_stream<byte_stream>>(owner, std::move(connected));
}

result<std::unique_ptr<descriptor_stream>> with_descriptors(std::unique_ptr<byte_stream> stream) {
  auto* passing = dynamic_cast<descriptor_stream*>(stream.get());
  if (!passing) {
    return kernel_error(operation::connect_peer, EOPNOTSUPP, {},
                        "descriptors pass over UNIX sockets only; connect by unix:PATH");
  }
  (void)stream.release();
  return std::unique_ptr<descriptor_stream>(passing);
}

}  // namespace tidemark::ring
