// SPDX-License-Identifier: Apache-2.0
//
// The plainest way to move memory to another process: one thread sends it in pieces of 1 MiB over TCP on loopback, a second
// process receives it right into its place. No frames, no checksums, no dirty pages: what tools/bench migrate holds a
// migration against.
//
//     tidemark_plain_send BYTES SOURCE DESTINATION [TURNS [CONGESTION_CONTROL]]
//
// SOURCE and DESTINATION are files (of /dev/shm, to be memory of the same kind as a guest's) of at least BYTES; both are
// mapped and touched beforehand. Ends with one JSON object a turn. A turn lasts from the first send until the receiver says
// that it has all. CONGESTION_CONTROL is the kernel's, by name; the host's own choice without.
//
// Threading: one thread in either process.

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>

namespace {

constexpr std::size_t piece_bytes = 1 << 20;
constexpr std::size_t page_bytes = 4096;

/// What a system call gave, or its error with what it was for.
template <class T>
T checked(T answer, const std::string& what) {
  if (answer < 0) throw std::system_error(errno, std::generic_category(), what);
  return answer;
}

std::span<std::byte> map_file(const std::string& path, std::size_t bytes) {
  const int file = checked(open(path.c_str(), O_RDWR | O_CLOEXEC), path);
  const auto size = checked(lseek(file, 0, SEEK_END), path);
  if (static_cast<std::size_t>(size) < bytes)
    throw std::runtime_error(path + " has " + std::to_string(size) + " bytes: at least " + std::to_string(bytes) +
                             " are needed");
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (at == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "cannot map " + path);
  close(file);
  return {static_cast<std::byte*>(at), bytes};
}

/// Gives every page its place in this process, and leaves what is in it.
void touch(std::span<std::byte> memory) {
  for (std::size_t at = 0; at < memory.size(); at += page_bytes) {
    auto* byte = const_cast<volatile std::byte*>(&memory[at]);
    *byte = *byte;
  }
}

void send_all(int socket, std::span<const std::byte> memory) {
  while (!memory.empty()) {
    const auto sent = checked(send(socket, memory.data(), std::min(memory.size(), piece_bytes), MSG_NOSIGNAL), "send");
    memory = memory.subspan(static_cast<std::size_t>(sent));
  }
}

void receive_all(int socket, std::span<std::byte> memory) {
  while (!memory.empty()) {
    const auto received = checked(recv(socket, memory.data(), std::min(memory.size(), piece_bytes), 0), "recv");
    if (received == 0) throw std::runtime_error("the other process closed the connection before all was sent");
    memory = memory.subspan(static_cast<std::size_t>(received));
  }
}

struct connection {
  int sender;
  int receiver;
};

/// Made whole by one process, so that neither ever waits for one that is gone.
connection connect_over_loopback(const std::string& congestion_control) {
  const int listener = checked(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  checked(bind(listener, reinterpret_cast<const sockaddr*>(&address), size), "bind to 127.0.0.1");
  checked(listen(listener, 1), "listen");
  checked(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  const int sender = checked(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  if (!congestion_control.empty())
    checked(setsockopt(sender, IPPROTO_TCP, TCP_CONGESTION, congestion_control.data(),
                       static_cast<socklen_t>(congestion_control.size())),
            "congestion control " + congestion_control);
  checked(connect(sender, reinterpret_cast<const sockaddr*>(&address), size), "connect to 127.0.0.1");
  const int on = 1;
  checked(setsockopt(sender, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
  const int receiver = checked(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept");
  close(listener);
  return {sender, receiver};
}

/// Says one byte when it is ready, and one behind each turn.
void receive_turns(int socket, std::span<std::byte> memory, int turns) {
  touch(memory);
  const std::byte said{1};
  send_all(socket, {&said, 1});
  for (int turn = 0; turn < turns; ++turn) {
    receive_all(socket, memory);
    send_all(socket, {&said, 1});
  }
}

void send_turns(int socket, std::span<std::byte> memory, int turns) {
  touch(memory);
  std::byte said{};
  receive_all(socket, {&said, 1});
  for (int turn = 0; turn < turns; ++turn) {
    const auto start = std::chrono::steady_clock::now();
    send_all(socket, memory);
    receive_all(socket, {&said, 1});
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    std::printf("{\"bytes\":%zu,\"seconds\":%.6f,\"bytes_per_s\":%.0f}\n", memory.size(), taken.count(),
                static_cast<double>(memory.size()) / taken.count());
  }
}

/// The receiver: ends when the sender does, which ends the connection, and says itself what failed.
[[noreturn]] void be_the_receiver(const connection& ends, std::span<std::byte> memory, int turns) {
  close(ends.sender);
  int status = 0;
  try {
    receive_turns(ends.receiver, memory, turns);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "tidemark_plain_send: receiver: %s\n", failure.what());
    status = 1;
  }
  _exit(status);
}

/// A whole number above nothing, or nothing.
std::uint64_t number_of(const char* word) {
  char* end = nullptr;
  const auto number = std::strtoull(word, &end, 10);
  return *word >= '0' && *word <= '9' && *end == '\0' ? number : 0;
}

int run(std::size_t bytes, const std::string& from, const std::string& to, int turns,
        const std::string& congestion_control) {
  const auto memory = map_file(from, bytes);
  const auto place = map_file(to, bytes);  // here: one process says what is wrong with either file
  const auto ends = connect_over_loopback(congestion_control);
  const auto receiver = checked(fork(), "fork");
  if (receiver == 0) be_the_receiver(ends, place, turns);
  close(ends.receiver);
  send_turns(ends.sender, memory, turns);
  int status = 0;
  checked(waitpid(receiver, &status, 0), "waitpid");
  return status == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) try {
  const auto bytes = count > 3 ? number_of(arguments[1]) : 0;
  const auto turns = count > 4 ? number_of(arguments[4]) : 1;
  if (count > 6 || bytes == 0 || turns == 0 || turns > 1000)
    return std::fputs("usage: tidemark_plain_send BYTES SOURCE DESTINATION [TURNS [CONGESTION_CONTROL]]\n", stderr), 2;
  return run(bytes, arguments[2], arguments[3], static_cast<int>(turns), count > 5 ? arguments[5] : "");
} catch (const std::exception& failure) {
  return std::fprintf(stderr, "tidemark_plain_send: %s\n", failure.what()), 1;
}
