// SPDX-License-Identifier: Apache-2.0

#include "ring/socket.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "ring/socket_file.hpp"
#include "ring/socket_stream.hpp"

namespace tidemark::ring {

namespace {

using detail::closed_here;
using detail::make_stream;
using detail::shared_socket;

error no_socket(int errno_value) {
  const bool full = errno_value == EMFILE || errno_value == ENFILE;
  return kernel_error(operation::connect_peer, errno_value, {},
                      full ? "no descriptor left; raise the limit (ulimit -n, LimitNOFILE= of the service)" : "");
}

const sockaddr* generic(const address::place& place) noexcept { return reinterpret_cast<const sockaddr*>(&place.socket); }

std::string why_not_connected(int errno_value, const std::string& where) {
  switch (errno_value) {
    case ENOENT:
      return "there is no socket at " + where + "; start the destination first";
    case EACCES:
      return "the socket at " + where + " is for another user, who started the destination";
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

result<shared_socket> open_socket(int family, int flags) {
  descriptor fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd) return no_socket(errno);
  return std::make_shared<detail::socket>(std::move(fd));
}

bool is_loopback(const address::place& place) noexcept {
  if (place.socket.ss_family == AF_INET6)
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(place.socket).sin6_addr);
  constexpr in_addr_t network_bits = 0xff000000;
  const auto host = ntohl(reinterpret_cast<const sockaddr_in&>(place.socket).sin_addr.s_addr);
  return (host & network_bits) == (INADDR_LOOPBACK & network_bits);
}

std::string why_not_controlled(int errno_value, const std::string& name) {
  if (errno_value == ENOENT)
    return "this kernel has no congestion control " + name +
           "; net.ipv4.tcp_available_congestion_control lists those it has";
  if (errno_value == EPERM)
    return "the congestion control " + name +
           " takes CAP_NET_ADMIN; net.ipv4.tcp_allowed_congestion_control lists those that do not";
  return "choosing the congestion control " + name;
}

// Before the socket is connected: one that paced from the start goes on setting timers.
result<void> control_congestion(int fd, const address::place& place, std::string name) {
  if (place.socket.ss_family == AF_UNIX) return {};
  const bool chosen = name != "auto";
  if (!chosen && !is_loopback(place)) return {};
  if (!chosen) name = "reno";
  const auto answer = ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size()));
  if (answer == 0 || !chosen) return {};
  const int errno_value = errno;
  return kernel_error(operation::connect_peer, errno_value, {}, why_not_controlled(errno_value, name));
}

void set_option(int fd, int level, int name, int value) noexcept { ::setsockopt(fd, level, name, &value, sizeof value); }

// Pages leave when they are sent: the engine gathers by itself.
void send_at_once(int fd) noexcept { set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); }

// A host that is gone without a word: by itself the kernel connects for two minutes, sends on for a quarter of an hour, and
// waits for ever for what was to come. The guest may stand still meanwhile.
void notice_silence(int fd) noexcept {
  constexpr int silence_s = 10;
  constexpr int probes = 5;
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, silence_s * 1000);  // what was sent is not taken
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);                      // nothing is under way
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, silence_s / 2);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, silence_s / 2 / probes);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, probes);
}

void set_up(int fd, int family) noexcept {
  if (family == AF_UNIX) return;
  send_at_once(fd);
  notice_silence(fd);
}

int failure_of(int fd) noexcept {
  int errno_value = 0;
  socklen_t size_bytes = sizeof errno_value;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &errno_value, &size_bytes);
  return errno_value;
}

// 0, or the errno of what failed. The ring only says when it has come to an end: a socket that is closed meanwhile wakes
// whoever polls it, and not always whoever connects.
task<int> connect_tcp(uring_loop& owner, shared_socket socket, const address::place& place) {
  const int fd = socket->fd();
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  if (::connect(fd, generic(place), place.size_bytes) < 0) {
    const int errno_value = errno;
    if (errno_value != EINPROGRESS) co_return errno_value;
    const int answer = co_await owner.submit([fd](io_uring_sqe* entry) { io_uring_prep_poll_add(entry, fd, POLLOUT); });
    if (answer < 0) co_return -answer;
  }
  ::fcntl(fd, F_SETFL, 0);  // or the ring would answer EAGAIN where it should wait
  co_return failure_of(fd);
}

// The same. It is made at once, or waits until the peer has room for it, which poll() does not tell.
task<int> connect_local(uring_loop& owner, shared_socket socket, const address::place& place) {
  const int answer = co_await owner.submit(
      [&](io_uring_sqe* entry) { io_uring_prep_connect(entry, socket->fd(), generic(place), place.size_bytes); });
  co_return -answer;
}

task<int> connect_socket(uring_loop& owner, shared_socket socket, const address::place& place) {
  if (place.socket.ss_family == AF_UNIX) co_return co_await connect_local(owner, std::move(socket), place);
  co_return co_await connect_tcp(owner, std::move(socket), place);
}

// Takes connections one by one. The ring only says when there is one: a descriptor that came in the ring's answer would be
// lost if the loop ended before somebody took it.
task<result<std::unique_ptr<byte_stream>>> accept_next(uring_loop& owner, shared_socket socket, int family,
                                                       uring_loop& user) {
  if (!socket) co_return closed_here(operation::connect_peer);
  for (;;) {
    descriptor fd(::accept4(socket->fd(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd) {
      set_up(fd.get(), family);
      co_return make_stream(user, std::make_shared<detail::socket>(std::move(fd)), family);
    }
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

task<result<std::unique_ptr<byte_stream>>> connector::connect(const address& peer, std::string congestion_control) {
  std::optional<error> failure;
  for (const auto& place : peer.places) {
    auto connected = co_await try_place(peer, place, congestion_control);
    if (connected) co_return make_stream(owner_, std::move(*connected), place.socket.ss_family);
    failure = connected.error();
    if (failure->code == make_error_code(errc::closed)) break;
  }
  co_return std::move(*failure);
}

task<result<shared_socket>> connector::try_place(const address& peer, const address::place& place,
                                                 const std::string& congestion_control) {
  const int family = place.socket.ss_family;
  auto socket = open_socket(family, 0);
  if (!socket) co_return socket.error();
  if (auto set = control_congestion((*socket)->fd(), place, congestion_control); !set) co_return set.error();
  set_up((*socket)->fd(), family);
  trying_ = *socket;
  const int errno_value = co_await connect_socket(owner_, *socket, place);
  trying_ = nullptr;
  if ((*socket)->closed()) co_return closed_here(operation::connect_peer);
  if (errno_value != 0)
    co_return kernel_error(operation::connect_peer, errno_value, {}, why_not_connected(errno_value, peer.text));
  co_return std::move(*socket);
}

void connector::close() noexcept {
  if (trying_) trying_->close();
}

task<result<std::unique_ptr<byte_stream>>> connect(uring_loop& owner, const address& peer, std::string congestion_control) {
  connector one(owner);
  co_return co_await one.connect(peer, std::move(congestion_control));
}

listener::listener(uring_loop& owner, shared_socket socket, std::unique_ptr<socket_file> file, int family) noexcept
    : owner_(owner),
      socket_(std::move(socket)),
      file_(std::move(file)),
      family_(family),
      port_(family == AF_UNIX ? std::uint16_t{0} : port_of(socket_->fd())) {}

listener::~listener() { close(); }

result<std::unique_ptr<listener>> listener::open(uring_loop& owner, const address& at) {
  const auto& place = at.places.front();
  const int family = place.socket.ss_family;
  auto socket = open_socket(family, SOCK_NONBLOCK);  // a peer may go away between the poll and the accept
  if (!socket) return socket.error();
  std::unique_ptr<socket_file> file;
  if (at.is_local()) {
    auto made = socket_file::open((*socket)->fd(), at);
    if (!made) return made.error();
    file = std::move(*made);
  } else if (const int errno_value = bind_and_listen((*socket)->fd(), place)) {
    return kernel_error(operation::connect_peer, errno_value, {}, why_not_listening(errno_value, at.text));
  }
  return std::unique_ptr<listener>(new listener(owner, std::move(*socket), std::move(file), family));
}

task<result<std::unique_ptr<byte_stream>>> listener::accept() { return accept_for(owner_); }
task<result<std::unique_ptr<byte_stream>>> listener::accept_for(uring_loop& user) {
  return accept_next(owner_, socket_, family_, user);
}

void listener::close() noexcept {
  file_.reset();  // first, while the socket is open
  if (auto socket = std::exchange(socket_, nullptr)) socket->close();
}

}  // namespace tidemark::ring
