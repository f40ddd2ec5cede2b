// SPDX-License-Identifier: Apache-2.0

#include <linux/vfio.h>

#include <new>

#include <tidemark/kernel_faulty.hpp>

namespace tidemark::kernel {

// --- what is to fail ---

void faulty::fail_nth(std::size_t n, int error_number, std::string_view only) {
  const std::lock_guard hold(mutex_);
  probability_ = 0;
  only_ = only;
  countdown_ = n;
  nth_error_ = error_number;
}

void faulty::fail_randomly(std::uint64_t seed, double probability, std::vector<int> error_numbers, std::string_view only) {
  const std::lock_guard hold(mutex_);
  countdown_ = 0;
  only_ = only;
  random_state_ = seed;
  probability_ = error_numbers.empty() ? 0 : probability;
  random_errors_ = std::move(error_numbers);
}

void faulty::fail_none() {
  const std::lock_guard hold(mutex_);
  countdown_ = 0;
  probability_ = 0;
}

void faulty::clear() {
  const std::lock_guard hold(mutex_);
  countdown_ = 0;
  probability_ = 0;
  ++round_;
  calls_ = 0;
  injected_ = 0;
  closes_ = 0;
  trace_.clear();
}

std::size_t faulty::calls() const {
  const std::lock_guard hold(mutex_);
  return calls_;
}

std::size_t faulty::injected() const {
  const std::lock_guard hold(mutex_);
  return injected_;
}

std::vector<faulty_call> faulty::trace() const {
  const std::lock_guard hold(mutex_);
  return trace_;
}

// --- a call's way ---

template <class Call>
auto faulty::passed(const char* name, const char* path, Call call) noexcept -> decltype(call()) {
  const fate which = admit(name, path);
  if (which.answer != 0) return which.answer;
  const auto answer = call();
  returned(which, answer);
  return answer;
}

faulty::fate faulty::admit(const char* name, const char* path) noexcept {
  const std::lock_guard hold(mutex_);
  const int failure = decide(name);
  const fate which{.number = ++calls_, .round = round_, .answer = -failure};
  if (failure != 0) ++injected_;
  try {
    if (trace_.size() < trace_max) {
      trace_.push_back({.number = which.number,
                        .name = name,
                        .path = path,
                        .answer = which.answer,
                        .injected = failure != 0,
                        .returned = failure != 0});
    }
  } catch (const std::bad_alloc&) {
    // the call counts, and is left out of the trace
  }
  return which;
}

/// The errno to fail with, or 0.
int faulty::decide(std::string_view name) noexcept {
  if (!only_.empty() && name != only_) return 0;
  if (countdown_ > 0 && --countdown_ == 0) return nth_error_;
  if (probability_ <= 0) return 0;
  constexpr double scale = 1.0 / (1ULL << 53);
  const bool fails = static_cast<double>(random() >> 11) * scale < probability_;
  return fails ? random_errors_[random() % random_errors_.size()] : 0;
}

void faulty::returned(const fate& which, long long answer) noexcept {
  const std::lock_guard hold(mutex_);
  if (which.round != round_ || which.number > trace_.size()) return;
  faulty_call& entry = trace_[which.number - 1];
  if (entry.number != which.number) return;  // some call before it was left out
  entry.answer = answer;
  entry.returned = true;
}

// splitmix64
std::uint64_t faulty::random() noexcept {
  std::uint64_t z = random_state_ += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

request_target faulty::target_of(int fd) const noexcept {
  const std::lock_guard hold(mutex_);
  const auto known = targets_.find(fd);
  return known == targets_.end() ? request_target::type1_container : known->second;
}

void faulty::learn(int fd, request_target what) noexcept {
  const std::lock_guard hold(mutex_);
  try {
    targets_.insert_or_assign(fd, what);
  } catch (const std::bad_alloc&) {
    // the names of some calls will be those of a type1 container
  }
}

// --- the system calls ---

int faulty::open(const char* path, int flags) noexcept {
  return passed("open", path, [&] { return below_.open(path, flags); });
}

int faulty::close(int fd) noexcept {
  ++closes_;
  {
    const std::lock_guard hold(mutex_);
    targets_.erase(fd);
  }
  return below_.close(fd);
}

int faulty::ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept {
  const char* name = request_name(request, target_of(fd));
  const int answer = passed(name, "", [&] { return below_.ioctl(fd, request, argument); });
  if (answer >= 0 && request == VFIO_GROUP_GET_DEVICE_FD) learn(answer, request_target::device);
  const bool spapr = argument == VFIO_SPAPR_TCE_IOMMU || argument == VFIO_SPAPR_TCE_v2_IOMMU;
  if (answer >= 0 && request == VFIO_SET_IOMMU && spapr) learn(fd, request_target::spapr_container);
  return answer;
}

ssize_t faulty::read(int fd, void* buffer, std::size_t bytes) noexcept {
  return passed("read", "", [&] { return below_.read(fd, buffer, bytes); });
}

ssize_t faulty::write(int fd, const void* buffer, std::size_t bytes) noexcept {
  return passed("write", "", [&] { return below_.write(fd, buffer, bytes); });
}

ssize_t faulty::pread(int fd, void* buffer, std::size_t bytes, std::uint64_t offset) noexcept {
  return passed("pread", "", [&] { return below_.pread(fd, buffer, bytes, offset); });
}

ssize_t faulty::pwrite(int fd, const void* buffer, std::size_t bytes, std::uint64_t offset) noexcept {
  return passed("pwrite", "", [&] { return below_.pwrite(fd, buffer, bytes, offset); });
}

ssize_t faulty::readlink(const char* path, char* target, std::size_t bytes) noexcept {
  return passed("readlink", path, [&] { return below_.readlink(path, target, bytes); });
}

}  // namespace tidemark::kernel
