// SPDX-License-Identifier: Apache-2.0

#include "ring/tcp.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

namespace tidemark::ring {

namespace detail {

/// A socket's descriptor, shared by its stream and the operations under way on it.
class socket {
 public:
  explicit socket(int fd) noexcept : fd_(fd) {}
  socket(const socket&) = delete;
  ~socket() { ::close(fd_); }

  int fd() const noexcept { return fd_; }
  bool closed() const noexcept { return closed_; }

  /// Wakes whoever waits on the socket; the descriptor stays theirs until they have gone.
  void close() noexcept {
    closed_ = true;
    ::shutdown(fd_, SHUT_RDWR);
  }

 private:
  int fd_;
  bool closed_ = false;
};

}  // namespace detail

namespace {

using shared_socket = std::shared_ptr<detail::socket>;

constexpr std::size_t parts_max = 1024;

error closed_here(operation what) { return make_error(what, errc::closed, {}, "this side closed the connection"); }

// --- addresses ---

struct host_and_port {
  std::string host;
  std::string port;
};

bool is_port(std::string_view text) noexcept {
  std::uint16_t port = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), port);
  return failed == std::errc{} && end == text.data() + text.size();
}

std::optional<host_and_port> split(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || !is_port(text.substr(colon + 1))) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  // Without brackets nobody can tell where an IPv6 address ends and the port begins; within them stands nothing else.
  if (bracketed != (host.find(':') != std::string_view::npos)) return std::nullopt;
  return host_and_port{std::string(host), std::string(text.substr(colon + 1))};
}

error unresolved(std::string_view text, int answer) {
  if (answer == EAI_SYSTEM) return kernel_error(operation::connect_peer, errno, {}, "resolving '" + std::string(text) + "'");
  return kernel_error(operation::connect_peer, EHOSTUNREACH, {},
                      "the name in '" + std::string(text) + "' does not resolve (" + gai_strerror(answer) +
                          "); check its spelling and the name server, or give the number");
}

// --- sockets ---

error no_socket(int errno_value) {
  const bool full = errno_value == EMFILE || errno_value == ENFILE;
  return kernel_error(operation::connect_peer, errno_value, {},
                      full ? "no descriptor left; raise the limit (ulimit -n, LimitNOFILE= of the service)" : "");
}

// Pages leave when they are sent: the engine gathers by itself.
void send_at_once(int fd) noexcept {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

const sockaddr* generic(const address::place& place) noexcept { return reinterpret_cast<const sockaddr*>(&place.socket); }

std::string why_not_connected(int errno_value, const std::string& where) {
  switch (errno_value) {
    case ECONNREFUSED:
      return "nothing listens at " + where + "; start the destination first";
    case ETIMEDOUT:
      return "nobody answered at " + where + "; is a firewall dropping the packets, or the host down?";
    case EHOSTUNREACH:
    case ENETUNREACH:
      return "no route to " + where + "; check the address and this host's routes";
    case EADDRNOTAVAIL:
      return "no free local port for a connection to " + where + "; see net.ipv4.ip_local_port_range";
    default:
      return "connecting to " + where;
  }
}

std::string why_not_listening(int errno_value, const std::string& where) {
  switch (errno_value) {
    case EADDRINUSE:
      return "another process already listens at " + where + "; stop it ('ss -ltnp' names it) or choose another port";
    case EADDRNOTAVAIL:
      return "no interface of this host has the address of " + where + "; 'ip address' lists those it has";
    case EACCES:
      return "listening at " + where + " takes CAP_NET_BIND_SERVICE; choose a port of 1024 or more";
    default:
      return "listening at " + where;
  }
}

std::uint16_t port_of(int fd) noexcept {
  sockaddr_storage own{};
  socklen_t size_bytes = sizeof own;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size_bytes);
  // sin_port and sin6_port are the same two bytes.
  return ntohs(reinterpret_cast<const sockaddr_in&>(own).sin_port);
}

// --- transfers ---

// Takes `count` bytes, and parts that are empty, off the front.
std::span<iovec> consume(std::span<iovec> parts, std::size_t count) noexcept {
  while (!parts.empty() && count >= parts.front().iov_len) {
    count -= parts.front().iov_len;
    parts.front().iov_base = static_cast<char*>(parts.front().iov_base) + parts.front().iov_len;
    parts.front().iov_len = 0;
    parts = parts.subspan(1);
  }
  if (count > 0) {
    parts.front().iov_base = static_cast<char*>(parts.front().iov_base) + count;
    parts.front().iov_len -= count;
  }
  return parts;
}

error transfer_error(operation what, const detail::socket& socket, int answer) {
  if (socket.closed()) return closed_here(what);
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

// Moves all bytes of `parts` through the socket. `prepare` is io_uring_prep_sendmsg or _recvmsg.
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

/// The byte_stream over a connected socket.
class tcp_stream final : public byte_stream {
 public:
  tcp_stream(uring_loop& owner, shared_socket socket) noexcept : owner_(owner), socket_(std::move(socket)) {
    send_at_once(socket_->fd());
  }
  ~tcp_stream() override { tcp_stream::close(); }

  task<result<void>> write(std::span<iovec> parts) override {
    // MSG_WAITALL: the kernel itself continues a short count, without a turn of the loop between.
    return transfer(owner_, socket_, parts, operation::send, [](io_uring_sqe* entry, int fd, const msghdr* message) {
      io_uring_prep_sendmsg(entry, fd, message, MSG_NOSIGNAL | MSG_WAITALL);
    });
  }

  task<result<void>> read(std::span<iovec> parts) override {
    return transfer(owner_, socket_, parts, operation::receive, [](io_uring_sqe* entry, int fd, msghdr* message) {
      io_uring_prep_recvmsg(entry, fd, message, MSG_WAITALL);
    });
  }

  void close() noexcept override {
    if (auto socket = std::exchange(socket_, nullptr)) socket->close();
  }

 private:
  uring_loop& owner_;
  shared_socket socket_;
};

result<shared_socket> open_socket(int family, int flags) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, IPPROTO_TCP);
  if (fd < 0) return no_socket(errno);
  return std::make_shared<detail::socket>(fd);
}

task<result<shared_socket>> connect_place(uring_loop& owner, const address& peer, const address::place& place) {
  auto socket =
      open_socket(place.socket.ss_family, 0);  // not SOCK_NONBLOCK: the ring would answer EAGAIN where it should wait
  if (!socket) co_return socket.error();
  const int fd = (*socket)->fd();
  const int answer = co_await owner.submit(
      [fd, &place](io_uring_sqe* entry) { io_uring_prep_connect(entry, fd, generic(place), place.size_bytes); });
  if (answer < 0) co_return kernel_error(operation::connect_peer, -answer, {}, why_not_connected(-answer, peer.text));
  co_return std::move(*socket);
}

// Takes connections one by one. The ring only says when there is one: a descriptor that came in the ring's answer would be
// lost if the loop ended before somebody took it.
task<result<std::unique_ptr<byte_stream>>> accept_next(uring_loop& owner, shared_socket socket, uring_loop& user) {
  if (!socket) co_return closed_here(operation::connect_peer);
  for (;;) {
    const int fd = ::accept4(socket->fd(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) co_return std::make_unique<tcp_stream>(user, std::make_shared<detail::socket>(fd));
    const int errno_value = errno;
    if (socket->closed()) co_return closed_here(operation::connect_peer);
    if (errno_value == EAGAIN) {
      co_await owner.submit([&socket](io_uring_sqe* entry) { io_uring_prep_poll_add(entry, socket->fd(), POLLIN); });
    } else if (errno_value != ECONNABORTED && errno_value != EINTR) {
      co_return no_socket(errno_value);
    }
  }
}

// 0, or the errno of the step that failed.
int bind_and_listen(int fd, const address::place& place) noexcept {
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd, generic(place), place.size_bytes) < 0 || ::listen(fd, SOMAXCONN) < 0) return errno;
  return 0;
}

}  // namespace

result<address> resolve(std::string_view text) {
  const auto parts = split(text);
  if (!parts) {
    return kernel_error(
        operation::connect_peer, EINVAL, {},
        "'" + std::string(text) + "' is no address; write HOST:PORT, or [IPV6]:PORT, with a port from 0 to 65535");
  }
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int answer = ::getaddrinfo(parts->host.c_str(), parts->port.c_str(), &wanted, &found))
    return unresolved(text, answer);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, ::freeaddrinfo);
  address answer{std::string(text), {}};
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    auto& place = answer.places.emplace_back();
    std::memcpy(&place.socket, at->ai_addr, at->ai_addrlen);
    place.size_bytes = at->ai_addrlen;
  }
  return answer;
}

task<result<std::unique_ptr<byte_stream>>> connect(uring_loop& owner, const address& peer) {
  std::optional<error> failure;
  for (const auto& place : peer.places) {
    auto connected = co_await connect_place(owner, peer, place);
    if (connected) co_return std::make_unique<tcp_stream>(owner, std::move(*connected));
    failure = connected.error();
  }
  co_return std::move(*failure);
}

listener::listener(uring_loop& owner, shared_socket socket, std::uint16_t port) noexcept
    : owner_(owner), socket_(std::move(socket)), port_(port) {}

listener::~listener() { close(); }

result<std::unique_ptr<listener>> listener::open(uring_loop& owner, const address& at) {
  const auto& place = at.places.front();
  auto socket = open_socket(place.socket.ss_family, SOCK_NONBLOCK);  // a peer may go away between the poll and the accept
  if (!socket) return socket.error();
  const int fd = (*socket)->fd();
  if (const int errno_value = bind_and_listen(fd, place)) {
    return kernel_error(operation::connect_peer, errno_value, {}, why_not_listening(errno_value, at.text));
  }
  return std::unique_ptr<listener>(new listener(owner, std::move(*socket), port_of(fd)));
}

task<result<std::unique_ptr<byte_stream>>> listener::accept() { return accept_next(owner_, socket_, owner_); }
task<result<std::unique_ptr<byte_stream>>> listener::accept_for(uring_loop& user) {
  return accept_next(owner_, socket_, user);
}

void listener::close() noexcept {
  if (auto socket = std::exchange(socket_, nullptr)) socket->close();
}

}  // namespace tidemark::ring
