// SPDX-License-Identifier: Apache-2.0

#include "cli/child.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <vector>

#include "cli/guest_memory.hpp"
#include "migrate/wire.hpp"

namespace tidemark::cli {

namespace {

std::vector<std::string> command_line(const demo_request& request) {
  std::vector<std::string> words{"tidemark", "demo", "--role", "destination", "--json", "--address", request.address};
  if (request.flip_byte) words.insert(words.end(), {"--inject", "flip-byte"});
  return words;
}

/// In the child, after fork: only what a signal handler might do, too.
[[noreturn]] void become_destination(const std::vector<char*>& words, int output, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);  // it ended before the call above
  dup2(output, STDOUT_FILENO);
  execv("/proc/self/exe", words.data());
  _exit(127);
}

/// One line, without its end. Empty at the end of the file.
std::string read_line(int fd) {
  std::string line;
  char one = 0;
  for (;;) {
    const auto got = ::read(fd, &one, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || one == '\n') return line;
    line += one;
  }
}

/// Why the destination process is of no use, from the last line it said.
error ended_early(const std::string& line) {
  const auto said = migrate::decode_object(line);
  const auto why = said ? migrate::text_in(*said, "error") : said.error();
  return make_error(operation::connect_peer, errc::peer_closed, {},
                    "the destination process ended" + (why ? ": " + *why : std::string()));
}

}  // namespace

result<destination_child> destination_child::start(const demo_request& request) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    return kernel_error(operation::connect_peer, errno, {}, "a pipe to the destination process");
  auto words = command_line(request);
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const auto parent = getpid();
  const auto pid = fork();
  if (pid == 0) become_destination(arguments, ends[1], parent);
  const int fork_errno = errno;
  close(ends[1]);
  destination_child child(pid, ends[0]);
  if (pid < 0) return kernel_error(operation::connect_peer, fork_errno, {}, "a process for the destination");

  const auto line = read_line(child.output_);
  const auto first = migrate::decode_object(line);
  auto address = first ? migrate::text_in(*first, "address") : first.error();
  if (!address) return ended_early(line);
  child.address_ = std::move(*address);
  return child;
}

destination_child::~destination_child() {
  if (output_ >= 0) close(output_);
  if (pid_ <= 0) return;
  kill(pid_, SIGTERM);
  waitpid(pid_, nullptr, 0);
}

result<destination_outcome> destination_child::wait() {
  std::string last;
  for (auto line = read_line(output_); !line.empty(); line = read_line(output_)) last = std::move(line);
  int status = 0;
  rusage used{};
  const auto ended = wait4(std::exchange(pid_, -1), &status, 0, &used);
  const auto said = migrate::decode_object(last);
  const auto bytes = said ? migrate::number_in(*said, "received_bytes") : said.error();
  if (!bytes || ended < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) return ended_early(last);
  return destination_outcome{*bytes, static_cast<std::uint64_t>(used.ru_maxrss) * 1024};
}

}  // namespace tidemark::cli
