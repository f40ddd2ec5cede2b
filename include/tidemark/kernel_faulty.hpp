// SPDX-License-Identifier: Apache-2.0
//
// A kernel that fails when told to: wraps any other, counts the calls made to it, and answers some with an errno instead of
// passing them on. What fails never reaches the kernel below, so nothing has happened when a call failed here.
//
// A sweep runs an operation once to count its calls, then once for each n with the n-th made to fail:
//
//     faulty kernel(model);
//     attach(kernel);
//     const auto points = kernel.trace();
//     for (const auto& point : points) { kernel.clear(); kernel.fail_nth(point.number, EIO); attach(kernel); ... }
//
// close() never fails and is not among the counted calls: Linux releases the descriptor whatever it answers.
//
// Threading: any thread may call anything at any time. Calls of several threads are numbered in the order they come in.
//
// Invariants:
//  1. A call is numbered, and its fate decided, before it is passed on; numbers begin at 1 and have no gap.
//  2. The same calls with the same seed fail alike.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <tidemark/kernel.hpp>

namespace tidemark::kernel {

/// Some numbers stand for several requests; what the descriptor is tells which.
enum class request_target { type1_container, spapr_container, device };

/// The name of an ioctl request of VFIO or of KVM's devices, as "VFIO_IOMMU_MAP_DMA"; "ioctl" for any other.
const char* request_name(unsigned long request, request_target on = request_target::type1_container) noexcept;

struct faulty_call {
  std::size_t number = 0;  ///< from 1 on
  std::string name;        ///< of the request for an ioctl, else of the system call
  std::string path;        ///< of open and readlink
  long long answer = 0;    ///< a result or a negative errno
  bool injected = false;   ///< it failed here
  bool returned = false;   ///< false: it is still being answered
};

class faulty final : public files {
 public:
  /// Calls that the trace keeps. Later ones are counted, and left out.
  static constexpr std::size_t trace_max = 100'000;

  explicit faulty(files& below) noexcept : below_(below) {}

  /// The n-th call from now on fails with `error_number` (EIO, ...), once; with `only`, the n-th of that name. n from 1 on.
  void fail_nth(std::size_t n, int error_number, std::string_view only = {});
  /// From now on each call fails with this probability (0 to 1), with one of the errors; with `only`, each of that name.
  void fail_randomly(std::uint64_t seed, double probability, std::vector<int> error_numbers, std::string_view only = {});
  /// From now on none fails.
  void fail_none();
  /// As new: none fails, nothing is counted or traced.
  void clear();

  std::size_t calls() const;
  std::size_t closes() const noexcept { return closes_; }
  std::size_t injected() const;
  std::vector<faulty_call> trace() const;

  using files::ioctl;
  int open(const char* path, int flags) noexcept override;
  int close(int fd) noexcept override;
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override;
  ssize_t read(int fd, void* buffer, std::size_t bytes) noexcept override;
  ssize_t write(int fd, const void* buffer, std::size_t bytes) noexcept override;
  ssize_t pread(int fd, void* buffer, std::size_t bytes, std::uint64_t offset) noexcept override;
  ssize_t pwrite(int fd, const void* buffer, std::size_t bytes, std::uint64_t offset) noexcept override;
  ssize_t readlink(const char* path, char* target, std::size_t bytes) noexcept override;

 private:
  struct fate {
    std::size_t number = 0;
    std::size_t round = 0;  ///< a clear() meanwhile makes the number mean another call
    int answer = 0;         ///< what to answer; 0 passes the call on
  };

  template <class Call>
  auto passed(const char* name, const char* path, Call call) noexcept -> decltype(call());
  fate admit(const char* name, const char* path) noexcept;
  int decide(std::string_view name) noexcept;
  void returned(const fate& which, long long answer) noexcept;
  std::uint64_t random() noexcept;
  request_target target_of(int fd) const noexcept;
  void learn(int fd, request_target what) noexcept;

  files& below_;
  std::atomic<std::size_t> closes_ = 0;
  mutable std::mutex mutex_;  // covers all below
  std::size_t round_ = 0;
  std::size_t calls_ = 0;
  std::size_t injected_ = 0;
  std::vector<faulty_call> trace_;
  std::unordered_map<int, request_target> targets_;  // of descriptors that are not type1 containers
  std::string only_;
  std::size_t countdown_ = 0;  // 0: no n-th call is to fail
  int nth_error_ = 0;
  std::uint64_t random_state_ = 0;
  double probability_ = 0;
  std::vector<int> random_errors_;
};

}  // namespace tidemark::kernel
