// SPDX-License-Identifier: Apache-2.0

#include "ring/uring_loop.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "ring/coroutines.hpp"

using namespace std::chrono_literals;
using namespace tidemark::ring;
using tidemark::tests::held;
using tidemark::tests::hold;
using tidemark::tests::run_on;

namespace {

std::unique_ptr<uring_loop> make_loop() { return uring_loop::make().value(); }

class pipe_pair {
 public:
  pipe_pair() { BOOST_TEST_REQUIRE(::pipe2(ends_.data(), O_CLOEXEC) == 0); }
  pipe_pair(const pipe_pair&) = delete;
  ~pipe_pair() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }

  int reader() const noexcept { return ends_[0]; }
  int writer() const noexcept { return ends_[1]; }
  void put(char byte) const { BOOST_TEST_REQUIRE(::write(writer(), &byte, 1) == 1); }

 private:
  std::array<int, 2> ends_{};
};

task<> read_byte(uring_loop& owner, int fd, char& byte, int& answer) {
  answer = co_await owner.submit([&](io_uring_sqe* entry) { io_uring_prep_read(entry, fd, &byte, 1, 0); });
}

/// Reads into a byte of its own frame: what the kernel may not touch after the frame is gone.
task<> read_own_byte(uring_loop& owner, int fd, int& resumed) {
  char byte = 0;
  int answer = 0;
  co_await read_byte(owner, fd, byte, answer);
  ++resumed;
}

task<> no_operation(uring_loop& owner, int& count) {
  const int answer = co_await owner.submit([](io_uring_sqe* entry) { io_uring_prep_nop(entry); });
  count += answer == 0;
}

/// Turns until all that was posted and submitted so far is in the kernel.
void settle(uring_loop& owner) {
  owner.post(make_work([&] { owner.stop(); }));
  owner.run().value();
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

std::chrono::nanoseconds cpu_time_of_thread() {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(uring_loop_suite)

BOOST_AUTO_TEST_CASE(the_error_names_the_cause_and_what_mends_it) {
  const auto says = [](const std::string& text, const char* words) { return text.find(words) != std::string::npos; };
  BOOST_TEST(says(cause_of_no_ring(EPERM, 2, -1), "sysctl kernel.io_uring_disabled=0"));
  BOOST_TEST(says(cause_of_no_ring(EPERM, 2, -1), "everyone"));
  BOOST_TEST(says(cause_of_no_ring(EPERM, 1, -1), "CAP_SYS_ADMIN"));
  BOOST_TEST(!says(cause_of_no_ring(EPERM, 1, -1), "membership"));
  BOOST_TEST(says(cause_of_no_ring(EPERM, 1, 994), "membership in group 994"));
  BOOST_TEST(says(cause_of_no_ring(EPERM, 0, -1), "seccomp"));
  BOOST_TEST(says(cause_of_no_ring(EPERM, -1, -1), "seccomp"));
  BOOST_TEST(says(cause_of_no_ring(ENOSYS, -1, -1), "CONFIG_IO_URING"));
  BOOST_TEST(says(cause_of_no_ring(EINVAL, 0, -1), "5.19"));
  BOOST_TEST(says(cause_of_no_ring(ENOMEM, 0, -1), "LimitMEMLOCK"));
  BOOST_TEST(says(cause_of_no_ring(EMFILE, 0, -1), "LimitNOFILE"));
  BOOST_TEST(says(cause_of_no_ring(ENFILE, 0, -1), "fs.file-max"));
  BOOST_TEST(cause_of_no_ring(EIO, 0, -1).empty());
}

BOOST_AUTO_TEST_CASE(a_loop_that_cannot_be_made_is_an_error_with_its_cause) {
  const auto before = open_descriptors();
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const int next = ::dup(0);  // the lowest free number
  ::close(next);
  for (const int spare : {0, 1}) {  // no room for the ring; none for its eventfd
    rlimit low = limit;
    low.rlim_cur = static_cast<rlim_t>(next + spare);
    ::setrlimit(RLIMIT_NOFILE, &low);
    const auto made = uring_loop::make();
    ::setrlimit(RLIMIT_NOFILE, &limit);
    BOOST_TEST_REQUIRE(made.has_error());
    BOOST_TEST((made.error().what == tidemark::operation::start_ring));
    BOOST_TEST(made.error().code.value() == EMFILE);
    BOOST_TEST(made.error().detail == cause_of_no_ring(EMFILE, -1, -1));
  }
  BOOST_TEST(open_descriptors() == before);
}

BOOST_AUTO_TEST_CASE(what_is_posted_from_many_threads_all_runs_on_the_loops_thread) {
  constexpr int threads = 4;
  constexpr int posts = 100'000;
  const auto owner = make_loop();
  std::array<int, threads> next{};
  int ran = 0;
  int misplaced = 0;
  const auto poster = [&](std::size_t name) {
    for (int i = 0; i < posts; ++i) {
      owner->post(make_work([&, name, i] {
        misplaced += !owner->in_loop() || next[name] != i;
        next[name] = i + 1;
        if (++ran == threads * posts) owner->stop();
      }));
    }
  };
  std::vector<std::thread> crowd;
  for (std::size_t name = 0; name < threads; ++name) crowd.emplace_back(poster, name);
  owner->run().value();
  for (auto& one : crowd) one.join();
  BOOST_TEST(ran == threads * posts);
  BOOST_TEST(misplaced == 0);
}

BOOST_AUTO_TEST_CASE(a_post_wakes_a_sleeping_loop_every_time) {
  constexpr int rounds = 20'000;
  const auto here = make_loop();
  const auto there = make_loop();
  int left = rounds;
  // One ball between two loops: each sleeps until the other posts.
  std::function<void()> serve = [&] {
    if (left-- == 0) {
      here->stop();
      there->stop();
      return;
    }
    there->post(make_work([&] { here->post(make_work([&] { serve(); })); }));
  };
  here->post(make_work([&] { serve(); }));
  std::thread other([&] { there->run().value(); });
  here->run().value();
  other.join();
  BOOST_TEST(left == -1);
}

BOOST_AUTO_TEST_CASE(a_loop_made_on_one_thread_runs_on_another_and_on_no_third) {
  const auto owner = make_loop();
  int count = 0;
  std::thread([&] { run_on(*owner, no_operation(*owner, count)); }).join();
  BOOST_TEST(count == 1);
  const auto again = owner->run();
  BOOST_TEST_REQUIRE(again.has_error());
  BOOST_TEST((again.error().what == tidemark::operation::start_ring));
  BOOST_TEST(again.error().code.value() == EEXIST);
}

BOOST_AUTO_TEST_CASE(run_returns_at_stop_and_goes_on_when_called_again) {
  const auto owner = make_loop();
  const pipe_pair pipe;
  char byte = 0;
  int answer = 0;
  start(read_byte(*owner, pipe.reader(), byte, answer));
  settle(*owner);
  BOOST_TEST(owner->under_way() == 1u);
  pipe.put('x');
  while (owner->under_way() > 0) settle(*owner);
  BOOST_TEST(byte == 'x');
  BOOST_TEST(answer == 1);
}

BOOST_AUTO_TEST_CASE(stop_before_run_makes_that_run_return_at_once) {
  const auto owner = make_loop();
  int count = 0;
  owner->post(make_work([&] { ++count; }));
  owner->stop();
  owner->run().value();
  BOOST_TEST(count == 0);
  settle(*owner);
  BOOST_TEST(count == 1);
}

BOOST_AUTO_TEST_CASE(more_requests_than_the_ring_has_entries_are_all_answered) {
  constexpr int many = 10'000;
  const auto owner = make_loop();
  int count = 0;
  for (int i = 0; i < many; ++i) start(no_operation(*owner, count));
  while (owner->under_way() > 0) settle(*owner);
  BOOST_TEST(count == many);
}

BOOST_AUTO_TEST_CASE(more_waiting_reads_than_the_ring_has_answers_are_all_answered) {
  constexpr std::size_t many = 5'000;
  const auto owner = make_loop();
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
  std::vector<std::uint64_t> values(many);
  int good = 0;
  const auto read_event = [&](std::uint64_t& value) -> task<> {
    const int answer =
        co_await owner->submit([&](io_uring_sqe* entry) { io_uring_prep_read(entry, fd, &value, sizeof value, 0); });
    good += answer == sizeof value && value == 1;
  };
  for (auto& value : values) start(read_event(value));
  settle(*owner);
  BOOST_TEST(owner->under_way() == many);
  ::eventfd_write(fd, many);
  while (owner->under_way() > 0) settle(*owner);
  BOOST_TEST(good == static_cast<int>(many));
  ::close(fd);
}

BOOST_AUTO_TEST_CASE(a_waiting_loop_sleeps_and_a_timer_ends_the_sleep) {
  const auto owner = make_loop();
  timer bell(*owner);
  const auto work = [&]() -> task<> {
    const auto before = owner->now();
    const auto used = cpu_time_of_thread();
    BOOST_TEST(co_await bell.until(before + 50ms));
    BOOST_TEST((owner->now() - before >= 50ms));
    BOOST_TEST((cpu_time_of_thread() - used < 25ms));
  };
  run_on(*owner, work());
}

BOOST_AUTO_TEST_CASE(a_timer_of_years_and_a_cancelled_one_are_no_trouble) {
  const auto owner = make_loop();
  timer bell(*owner);
  bool came = true;
  start([](timer& alarm, bool& out) -> task<> { out = co_await alarm.until(clock::time_point::max()); }(bell, came));
  settle(*owner);
  bell.cancel();
  settle(*owner);
  BOOST_TEST(!came);
}

BOOST_AUTO_TEST_CASE(destroying_a_waiting_frame_takes_its_request_back) {
  const auto owner = make_loop();
  const pipe_pair pipe;
  int resumed = 0;
  held waiting = hold(read_own_byte(*owner, pipe.reader(), resumed));
  settle(*owner);
  BOOST_TEST(owner->under_way() == 1u);
  waiting.destroy();
  BOOST_TEST(owner->under_way() == 0u);
  pipe.put('x');  // nobody takes it any more
  settle(*owner);
  pollfd ready{pipe.reader(), POLLIN, 0};
  BOOST_TEST(::poll(&ready, 1, 0) == 1);
  BOOST_TEST(resumed == 0);
}

BOOST_AUTO_TEST_CASE(a_request_taken_back_before_its_turn_never_reaches_the_kernel) {
  const auto owner = make_loop();
  int resumed = 0;
  { const held waiting = hold(no_operation(*owner, resumed)); }
  BOOST_TEST(owner->under_way() == 0u);
  settle(*owner);
  BOOST_TEST(resumed == 0);
}

BOOST_AUTO_TEST_CASE(one_that_is_resumed_may_destroy_another_that_was_answered_in_the_same_turn) {
  const auto owner = make_loop();
  const pipe_pair pipe;
  int resumed = 0;
  std::optional<held> victim;
  const auto killer = [&]() -> task<> {
    co_await owner->submit([](io_uring_sqe* entry) { io_uring_prep_nop(entry); });
    victim.reset();
  };
  start(killer());
  victim.emplace(hold(no_operation(*owner, resumed)));
  while (owner->under_way() > 0) settle(*owner);
  BOOST_TEST(resumed == 0);
}

BOOST_AUTO_TEST_CASE(a_loop_is_destroyed_with_requests_in_every_place) {
  const auto before = open_descriptors();
  {
    const pipe_pair pipe;
    auto owner = make_loop();
    int resumed = 0;
    std::vector<held> waiting;
    for (int i = 0; i < 300; ++i) waiting.push_back(hold(read_own_byte(*owner, pipe.reader(), resumed)));
    settle(*owner);
    waiting.push_back(hold(read_own_byte(*owner, pipe.reader(), resumed)));
    BOOST_TEST(owner->under_way() == 301u);
    owner.reset();
    BOOST_TEST(resumed == 0);
  }
  BOOST_TEST(open_descriptors() == before);
}

BOOST_AUTO_TEST_CASE(a_loop_that_never_ran_is_destroyed_with_requests) {
  int resumed = 0;
  auto owner = make_loop();
  const held waiting = hold(no_operation(*owner, resumed));
  owner.reset();
  BOOST_TEST(resumed == 0);
}

BOOST_AUTO_TEST_CASE(a_loop_is_destroyed_elsewhere_after_its_thread_has_ended) {
  const pipe_pair pipe;
  auto owner = make_loop();
  int resumed = 0;
  std::optional<held> waiting;
  std::thread([&] {
    waiting.emplace(hold(read_own_byte(*owner, pipe.reader(), resumed)));
    settle(*owner);
  }).join();
  BOOST_TEST(owner->under_way() == 1u);
  owner.reset();
  waiting.reset();
  pipe.put('x');
  pollfd ready{pipe.reader(), POLLIN, 0};
  BOOST_TEST(::poll(&ready, 1, 0) == 1);  // the read that died with its thread did not take the byte
  BOOST_TEST(resumed == 0);
}

BOOST_AUTO_TEST_SUITE_END()
