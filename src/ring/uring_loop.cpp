// SPDX-License-Identifier: Apache-2.0

#include "ring/uring_loop.hpp"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <cstdio>

namespace tidemark::ring {

namespace {

using namespace std::chrono_literals;

constexpr unsigned entries = 256;
constexpr unsigned answers_max = 2048;
constexpr auto retry_after = 1ms;
constexpr auto cancel_again_after = 100ms;
constexpr auto forever = clock::duration::max();

// Best first: Linux 6.1, 6.0, 5.19. All start disabled, and say in the ring's memory when an answer waits to be fetched.
constexpr unsigned always = IORING_SETUP_R_DISABLED | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE;
constexpr std::array setups{
    always | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    always | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
    always | IORING_SETUP_COOP_TASKRUN,
};

int open_ring(io_uring& ring) noexcept {
  int answer = -EINVAL;
  for (const unsigned flags : setups) {
    io_uring_params parameters{};
    parameters.flags = flags;
    parameters.cq_entries = answers_max;
    answer = io_uring_queue_init_params(entries, &ring, &parameters);
    if (answer != -EINVAL) break;
  }
  return answer;
}

long read_sysctl(const char* path, long otherwise) noexcept {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "re"), std::fclose);
  long value = otherwise;
  return file && std::fscanf(file.get(), "%ld", &value) == 1 ? value : otherwise;
}

error no_ring(int errno_value) {
  const long disabled = read_sysctl("/proc/sys/kernel/io_uring_disabled", -1);
  const long group = read_sysctl("/proc/sys/kernel/io_uring_group", -1);
  return kernel_error(operation::start_ring, errno_value, {},
                      cause_of_no_ring(errno_value, static_cast<int>(disabled), group));
}

// Answers that say "not now" or "nothing yet": the next turn tries again.
bool is_passing(int answer) noexcept {
  return answer >= 0 || answer == -ETIME || answer == -EINTR || answer == -EAGAIN || answer == -EBUSY || answer == -ENOMEM;
}

bool is_shortage(int answer) noexcept { return answer == -EAGAIN || answer == -EBUSY || answer == -ENOMEM; }

}  // namespace

std::string cause_of_no_ring(int errno_value, int disabled, long group) {
  switch (errno_value) {
    case EPERM:
      if (disabled == 2)
        return "io_uring is switched off for everyone on this host; 'sysctl kernel.io_uring_disabled=0' allows it";
      if (disabled == 1) {
        const std::string who =
            group < 0 ? "CAP_SYS_ADMIN" : "CAP_SYS_ADMIN or membership in group " + std::to_string(group);
        return "io_uring is kept for processes with " + who +
               "; 'sysctl kernel.io_uring_disabled=0' allows it to all, kernel.io_uring_group names a group that may";
      }
      return "a seccomp filter forbids io_uring, as container runtimes do by default; allow io_uring_setup, io_uring_enter "
             "and "
             "io_uring_register in the container's seccomp profile";
    case ENOSYS:
      return "this kernel has no io_uring (CONFIG_IO_URING), or a container's seccomp profile hides it; Linux 5.19 or newer "
             "is needed";
    case EINVAL:
      return "this kernel's io_uring is too old; Linux 5.19 or newer is needed";
    case ENOMEM:
      return "no memory for the ring: the locked-memory limit (ulimit -l, LimitMEMLOCK= of the service) or the memory "
             "cgroup is "
             "exhausted";
    case EMFILE:
      return "this process has all the descriptors it may; raise its limit (ulimit -n, LimitNOFILE= of the service)";
    case ENFILE:
      return "the host has all the open files it may; raise fs.file-max";
    default:
      return {};
  }
}

void request::begin(std::coroutine_handle<> waiting) noexcept {
  waiting_ = waiting;
  place_ = place::backlog;
  owner_->backlog_.push_back(*this);
  ++owner_->under_way_;
}

void request::abandon() noexcept {
  if (place_ == place::kernel) owner_->take_back(*this);
  if (place_ != place::nowhere) owner_->release(*this);
}

result<std::unique_ptr<uring_loop>> uring_loop::make() {
  io_uring ring{};
  if (const int answer = open_ring(ring); answer < 0) return no_ring(-answer);
  const int wake_fd = eventfd(0, EFD_CLOEXEC);
  if (wake_fd < 0) {
    const int errno_value = errno;
    io_uring_queue_exit(&ring);
    return no_ring(errno_value);
  }
  return std::unique_ptr<uring_loop>(new uring_loop(ring, wake_fd));
}

uring_loop::~uring_loop() {
  closed_ = true;
  take_back_all();
  for (requests* list : {&backlog_, &kernel_, &answered_}) {
    while (!list->empty()) release(list->front());
  }
  assert(under_way_ == 0);
  io_uring_queue_exit(&ring_);
  ::close(wake_fd_);
}

int uring_loop::enable() noexcept {
  if (enabled_) return bound_to_ == std::this_thread::get_id() ? 0 : -EEXIST;
  // By number: liburing 2.3 declares io_uring_enable_rings and forgets to export it.
  if (::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) < 0) return -errno;
  bound_to_ = std::this_thread::get_id();
  enabled_ = true;
  return 0;
}

result<void> uring_loop::run() {
  if (const int answer = enable(); answer < 0) {
    return kernel_error(operation::start_ring, -answer, {}, "a ring belongs to the thread that ran it first");
  }
  const running here(*this);
  while (!stop_asked_.exchange(false)) {
    if (const int answer = turn(); !is_passing(answer)) {
      return kernel_error(operation::start_ring, -answer, {}, "the kernel refuses the ring's entries");
    }
  }
  return {};
}

void uring_loop::stop() noexcept {
  stop_asked_ = true;
  wake();
}

void uring_loop::wake() noexcept {
  // Fails only when the count is at its maximum, and then the read has long been answered.
  [[maybe_unused]] const int answer = eventfd_write(wake_fd_, 1);
}

int uring_loop::turn() noexcept {
  run_ready();
  arm_wake();
  hand_over();
  const int answer = enter();
  take_answers();
  resume_answered();
  return answer;
}

void uring_loop::arm_wake() noexcept {
  if (wake_armed_) return;
  io_uring_sqe* entry = free_entry();
  if (!entry) return;
  io_uring_prep_read(entry, wake_fd_, &wake_count_, sizeof wake_count_, 0);
  io_uring_sqe_set_data(entry, &wake_count_);
  wake_armed_ = true;
}

void uring_loop::hand_over() noexcept {
  while (!backlog_.empty()) {
    io_uring_sqe* entry = free_entry();
    if (!entry) return;
    request& next = backlog_.front();
    backlog_.pop_front();
    next.prepare(entry);
    io_uring_sqe_set_data(entry, &next);
    next.place_ = request::place::kernel;
    kernel_.push_back(next);
  }
}

io_uring_sqe* uring_loop::free_entry() noexcept {
  if (io_uring_sqe* entry = io_uring_get_sqe(&ring_)) return entry;
  io_uring_submit(&ring_);
  return io_uring_get_sqe(&ring_);  // null when the kernel is short of memory
}

// How long the thread may sleep: not at all while something waits to be run.
clock::duration uring_loop::idle_for() const noexcept {
  if (has_posted() || stop_asked_) return clock::duration::zero();
  if (!wake_armed_ || !backlog_.empty()) return retry_after;
  const auto timer = next_timer();
  if (!timer) return forever;
  const auto time = now();
  return *timer > time ? *timer - time : clock::duration::zero();
}

int uring_loop::enter() noexcept {
  const auto idle = idle_for();
  if (idle > clock::duration::zero()) return wait_at_most(idle);
  // Without entries to hand over, the ring's memory says whether there is anything to fetch: no system call.
  return io_uring_sq_ready(&ring_) > 0 ? io_uring_submit_and_get_events(&ring_) : 0;
}

int uring_loop::wait_at_most(clock::duration longest) noexcept {
  const auto whole = std::chrono::floor<std::chrono::seconds>(longest);
  __kernel_timespec span{whole.count(), std::chrono::nanoseconds(longest - whole).count()};
  __kernel_timespec* const limit = longest == forever ? nullptr : &span;
  io_uring_cqe* first = nullptr;
  const int answer = io_uring_submit_and_wait_timeout(&ring_, &first, 1, limit, nullptr);
  if (!is_shortage(answer)) return answer;
  // The entries stay queued. The kernel has not waited, so wait here for what it already has.
  __kernel_timespec pause{0, std::chrono::nanoseconds(retry_after).count()};
  return io_uring_wait_cqes(&ring_, &first, 1, &pause, nullptr);
}

void uring_loop::take_answers() noexcept {
  std::array<io_uring_cqe*, 64> batch;
  while (const unsigned count = io_uring_peek_batch_cqe(&ring_, batch.data(), batch.size())) {
    for (unsigned at = 0; at < count; ++at) take_answer(*batch[at]);
    io_uring_cq_advance(&ring_, count);
  }
}

void uring_loop::take_answer(const io_uring_cqe& entry) noexcept {
  void* const name = io_uring_cqe_get_data(&entry);
  if (name == &wake_count_) wake_armed_ = false;
  if (name == &wake_count_ || name == nullptr) return;  // null: a cancel's own answer
  auto& one = *static_cast<request*>(name);
  one.answer_ = entry.res;
  one.place_ = request::place::answered;
  one.unlink();
  answered_.push_back(one);
}

void uring_loop::resume_answered() {
  requests batch;
  batch.swap(answered_);
  while (!batch.empty()) {  // those resumed may destroy others, which then leave the batch by themselves
    request& one = batch.front();
    release(one);
    one.waiting_.resume();
  }
}

void uring_loop::release(request& one) noexcept {
  one.unlink();
  one.place_ = request::place::nowhere;
  --under_way_;
}

// Asks the kernel to cancel and takes answers until they are gone. Asks again now and then: a request that is just
// moving between two queues of the kernel escapes a cancel.
template <class Cancel, class Gone>
void uring_loop::cancel_until(Cancel cancel, Gone gone) noexcept {
  while (!gone()) {
    if (io_uring_sqe* entry = free_entry()) {
      cancel(entry);
      io_uring_sqe_set_data(entry, nullptr);
    }
    int answer = 0;
    while (!gone() && answer != -ETIME) {
      answer = wait_at_most(cancel_again_after);
      if (!is_passing(answer)) return;  // the ring's thread has ended, and the kernel took everything back then
      take_answers();
    }
  }
}

void uring_loop::take_back(request& one) noexcept {
  const auto name = reinterpret_cast<std::uintptr_t>(&one);
  cancel_until([name](io_uring_sqe* entry) { io_uring_prep_cancel64(entry, name, 0); },
               [&one] { return one.place_ != request::place::kernel; });
}

void uring_loop::take_back_all() noexcept {
  if (!enabled_) return;
  cancel_until(
      [](io_uring_sqe* entry) { io_uring_prep_cancel64(entry, 0, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY); },
      [this] { return kernel_.empty() && !wake_armed_; });
}

}  // namespace tidemark::ring
