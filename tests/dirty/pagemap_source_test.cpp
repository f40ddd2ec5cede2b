// SPDX-License-Identifier: Apache-2.0
//
// On the running kernel where that can (Linux 6.7); what cannot be had there, with system calls that answer what the test
// wants.

#include <tidemark/pagemap_source.hpp>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dirty/harvested.hpp"
#include "dirty/pagemap_tracker.hpp"
#include "support/ruled_kernel.hpp"

namespace tidemark {

namespace {

using tests::failed_harvest;
using tests::harvested;
using tests::must;
using tests::pages_of;
using tests::says;

constexpr std::uint64_t huge_bytes = 2ULL << 20;

bool kernel_has_it() {
  utsname system{};
  ::uname(&system);
  int major = 0;
  int minor = 0;
  std::sscanf(system.release, "%d.%d", &major, &minor);
  return std::pair(major, minor) >= std::pair(6, 7);
}

/// For cases that run on the kernel.
boost::test_tools::assertion_result on_this_kernel(boost::unit_test::test_unit_id) {
  boost::test_tools::assertion_result can(kernel_has_it());
  can.message() << "needs Linux 6.7";
  return can;
}
boost::test_tools::assertion_result on_older_kernels(boost::unit_test::test_unit_id) {
  boost::test_tools::assertion_result can(!kernel_has_it());
  can.message() << "wants a kernel before 6.7";
  return can;
}
const boost::unit_test::precondition needs_the_kernel{on_this_kernel};
const boost::unit_test::precondition needs_an_older_kernel{on_older_kernels};

/// Pages of our own, small ones unless they are asked for otherwise.
class mapped {
 public:
  explicit mapped(std::uint64_t pages, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1)
      : bytes_(pages * page_bytes),
        at_(static_cast<std::byte*>(::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0))) {
    BOOST_REQUIRE(at_ != MAP_FAILED);
    ::madvise(at_, bytes_, MADV_NOHUGEPAGE);
  }
  mapped(const mapped&) = delete;
  mapped& operator=(const mapped&) = delete;
  ~mapped() { ::munmap(at_, bytes_); }

  std::byte* page(std::uint64_t number) const { return at_ + number * page_bytes; }
  std::uint64_t bytes() const { return bytes_; }
  ram_block block() const { return {"ram", at_, bytes_}; }
  void write(std::uint64_t number) const {
    auto* const byte = static_cast<volatile unsigned char*>(static_cast<void*>(page(number)));
    *byte = static_cast<unsigned char>(*byte + 1);
  }
  int read(std::uint64_t number) const { return *static_cast<volatile unsigned char*>(static_cast<void*>(page(number))); }

 private:
  std::uint64_t bytes_;
  std::byte* at_;
};

/// System calls of a machine that lacks something.
struct calls_of_test final : dirty::memory_calls {
  int userfaultfd_answer = -EPERM;
  int userfaultfd(int) noexcept override { return userfaultfd_answer; }
  bool mapped(std::byte*, std::uint64_t) noexcept override { return true; }
};

/// Files of which some cannot be opened.
class refusing_files final : public kernel::passing {
 public:
  refusing_files(std::string path, int errno_value)
      : passing(kernel::host_kernel()), path_(std::move(path)), errno_(errno_value) {}
  using files::ioctl;
  int open(const char* path, int flags) noexcept override { return path == path_ ? -errno_ : passing::open(path, flags); }

 private:
  std::string path_;
  int errno_;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(pagemap)

BOOST_AUTO_TEST_CASE(tells_the_pages_written_and_each_once, *needs_the_kernel) {
  const mapped first(64);
  const mapped second(16);
  first.write(3);
  pagemap_source source({first.block(), second.block()});
  must(source.start());
  BOOST_TEST(harvested(source).empty());
  for (const std::uint64_t page : {0U, 5U, 6U, 63U}) first.write(page);
  second.write(15);
  BOOST_CHECK((harvested(source) == pages_of{{0, 0}, {0, 5}, {0, 6}, {0, 63}, {1, 15}}));
  BOOST_TEST(harvested(source).empty());
  first.write(5);
  BOOST_CHECK((harvested(source) == pages_of{{0, 5}}));
}

BOOST_AUTO_TEST_CASE(memory_that_was_never_touched_is_dirty_when_it_is_written_and_not_when_it_is_read, *needs_the_kernel) {
  const mapped memory(2 * huge_bytes / page_bytes + 7);
  pagemap_source source({memory.block()});
  must(source.start());
  for (const std::uint64_t page : {1U, 600U, 1030U}) BOOST_TEST(memory.read(page) == 0);
  BOOST_TEST(harvested(source).empty());
  for (const std::uint64_t page : {1U, 2U, 1024U}) memory.write(page);
  BOOST_CHECK((harvested(source) == pages_of{{0, 1}, {0, 2}, {0, 1024}}));
  BOOST_TEST(harvested(source).empty());
}

BOOST_AUTO_TEST_CASE(a_range_is_told_at_its_place_in_the_block, *needs_the_kernel) {
  const mapped memory(10);
  pagemap_source source(
      std::vector<seen_memory>{{memory.page(4), 4 * page_bytes, 7, 100}, {memory.page(0), page_bytes, 2, 50}});
  must(source.start());
  for (std::uint64_t page = 0; page < 10; ++page) memory.write(page);
  BOOST_CHECK((harvested(source) == pages_of{{7, 100}, {7, 101}, {7, 102}, {7, 103}, {2, 50}}));
}

BOOST_AUTO_TEST_CASE(what_system_calls_write_is_dirty, *needs_the_kernel) {
  const mapped memory(8);
  pagemap_source source({memory.block()});
  must(source.start());
  const int zeros = ::open("/dev/zero", O_RDONLY);
  BOOST_REQUIRE(::read(zeros, memory.page(3), 10) == 10);
  ::close(zeros);
  BOOST_CHECK((harvested(source) == pages_of{{0, 3}}));
}

BOOST_AUTO_TEST_CASE(shared_memory_is_tracked_through_its_own_mapping, *needs_the_kernel) {
  const int fd = ::memfd_create("ram", MFD_CLOEXEC);
  BOOST_REQUIRE(::ftruncate(fd, 32 * page_bytes) == 0);
  const mapped memory(32, MAP_SHARED, fd);
  const mapped elsewhere(32, MAP_SHARED, fd);
  memory.write(1);
  pagemap_source source({memory.block()});
  must(source.start());
  for (const std::uint64_t page : {1U, 30U}) memory.write(page);
  elsewhere.write(9);  // as another process would: not seen, as the header says
  BOOST_CHECK((harvested(source) == pages_of{{0, 1}, {0, 30}}));
  BOOST_TEST(memory.read(9) == 1);
  BOOST_TEST(harvested(source).empty());
  ::close(fd);
}

BOOST_AUTO_TEST_CASE(a_huge_page_is_told_by_its_small_pages, *needs_the_kernel) {
  const mapped memory(3 * huge_bytes / page_bytes);
  const auto start = reinterpret_cast<std::uintptr_t>(memory.page(0));
  auto* const huge = memory.page(0) + (huge_bytes - start % huge_bytes) % huge_bytes;
  ::madvise(huge, 2 * huge_bytes, MADV_HUGEPAGE);
  std::memset(huge, 1, 2 * huge_bytes);
  pagemap_source source(std::vector<seen_memory>{{huge, 2 * huge_bytes, 0, 0}});
  must(source.start());
  BOOST_TEST(harvested(source).empty());
  huge[3 * page_bytes] = std::byte{2};
  BOOST_CHECK((harvested(source) == pages_of{{0, 3}}));
  huge[4 * page_bytes] = std::byte{2};
  BOOST_CHECK((harvested(source) == pages_of{{0, 4}}));
}

// More runs than one answer of the kernel holds, and at both ends of it.
BOOST_AUTO_TEST_CASE(many_runs_are_told_all, *needs_the_kernel) {
  constexpr std::uint64_t pages = 20001;
  const mapped memory(pages);
  pagemap_source source({memory.block()});
  must(source.start());
  for (int round = 0; round < 2; ++round) {
    for (std::uint64_t page = 0; page < pages; page += 2) memory.write(page);
    const auto told = harvested(source);
    BOOST_TEST(told.size() == pages / 2 + 1);
    for (const auto& [block, page] : told) BOOST_REQUIRE(page % 2 == 0);
    BOOST_TEST(harvested(source).empty());
  }
}

// Each page gets a number from a counter that goes up; a harvest that comes after tells it. What a copy made of the told
// pages only has at the end is what memory has: the contract of the whole source.
BOOST_AUTO_TEST_CASE(no_write_is_lost_under_a_writer, *needs_the_kernel) {
  constexpr std::uint64_t pages = 3000;
  const mapped memory(pages);
  const auto word = [&](std::uint64_t page) {
    return std::atomic_ref(*static_cast<std::uint64_t*>(static_cast<void*>(memory.page(page))));
  };
  pagemap_source source({memory.block()});
  must(source.start());
  std::atomic<bool> writing{true};
  std::thread writer([&] {
    std::uint64_t random = 12345;
    for (std::uint64_t stamp = 1; stamp <= 400000; ++stamp) {
      random = random * 6364136223846793005ULL + 1442695040888963407ULL;
      word((random >> 33) % pages).store(stamp, std::memory_order_relaxed);
    }
    writing = false;
  });
  std::vector<std::uint64_t> copy(pages, 0);
  std::uint64_t harvests = 0;
  const auto send = [&] {
    for (const auto& [block, page] : harvested(source)) copy[page] = word(page).load(std::memory_order_relaxed);
    ++harvests;
  };
  while (writing) send();
  writer.join();
  send();
  for (std::uint64_t page = 0; page < pages; ++page) BOOST_REQUIRE(copy[page] == word(page).load());
  BOOST_TEST(harvested(source).empty());
  BOOST_TEST(harvests > 2u);
}

BOOST_AUTO_TEST_CASE(starts_again_after_a_stop_and_forgets, *needs_the_kernel) {
  const mapped memory(16);
  pagemap_source source({memory.block()});
  source.stop();
  must(source.start());
  memory.write(1);
  source.stop();
  BOOST_TEST(failed_harvest(source).code == make_error_code(errc::closed));
  memory.write(2);
  must(source.start());
  memory.write(3);
  BOOST_CHECK((harvested(source) == pages_of{{0, 3}}));
  must(source.start());  // once more without a stop
  memory.write(4);
  BOOST_CHECK((harvested(source) == pages_of{{0, 4}}));
}

BOOST_AUTO_TEST_CASE(two_sources_cannot_have_the_same_memory_and_the_second_can_when_the_first_stops, *needs_the_kernel) {
  const mapped memory(16);
  const mapped other(16);
  pagemap_source first({memory.block()});
  must(first.start());
  pagemap_source second({other.block(), memory.block()});
  const auto refused = second.start();
  BOOST_TEST(says(refused, "another userfaultfd has it"));
  BOOST_TEST(refused.error().code.value() == EBUSY);
  first.stop();
  // The failed start let go of what it had.
  pagemap_source third({other.block(), memory.block()});
  must(third.start());
  memory.write(1);
  BOOST_CHECK((harvested(third) == pages_of{{1, 1}}));
}

BOOST_AUTO_TEST_CASE(memory_that_is_gone_or_mapped_anew_is_an_error, *needs_the_kernel) {
  const mapped memory(64);
  pagemap_source source({memory.block()});
  must(source.start());
  ::munmap(memory.page(20), 4 * page_bytes);
  const auto gone = failed_harvest(source);
  BOOST_TEST(says(gone, "is not mapped"));
  BOOST_TEST(gone.code.value() == ENOMEM);
  BOOST_CHECK(gone.what == operation::query_cpu_dirty);
  BOOST_REQUIRE(::mmap(memory.page(20), 4 * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                       0) == memory.page(20));
  memory.write(21);
  const auto anew = failed_harvest(source);
  BOOST_TEST(says(anew, "mapped anew"));
  BOOST_TEST(anew.code.value() == EPERM);
  must(source.start());
  memory.write(21);
  BOOST_CHECK((harvested(source) == pages_of{{0, 21}}));
}

BOOST_AUTO_TEST_CASE(does_not_start_on_memory_that_is_not_there_or_named_twice, *needs_the_kernel) {
  const mapped memory(64);
  pagemap_source twice(std::vector<seen_memory>{{memory.page(0), 8 * page_bytes, 0, 0}, {memory.page(7), page_bytes, 1, 0}});
  BOOST_TEST(says(twice.start(), "overlaps"));
  pagemap_source crooked(std::vector<seen_memory>{{memory.page(0) + 1, page_bytes, 0, 0}});
  BOOST_TEST(says(crooked.start(), "no whole pages"));
  ::munmap(memory.page(20), page_bytes);
  pagemap_source holed({memory.block()});
  BOOST_TEST(says(holed.start(), "is not mapped"));
}

BOOST_AUTO_TEST_CASE(a_process_without_privilege_may, *needs_the_kernel) {
  // Not this one, which is root in many places: the flag that spares the privilege is what is looked at.
  struct looking final : dirty::memory_calls {
    int flags = 0;
    int userfaultfd(int asked) noexcept override { return flags = asked, dirty::system_calls().userfaultfd(asked); }
    bool mapped(std::byte* host, std::uint64_t bytes) noexcept override { return dirty::system_calls().mapped(host, bytes); }
  } calls;
  const mapped memory(4);
  dirty::pagemap_tracker tracker({{memory.page(0), memory.bytes(), 0, 0}}, kernel::host_kernel(), calls);
  must(tracker.start());
  BOOST_TEST((calls.flags & UFFD_USER_MODE_ONLY) != 0);
}

BOOST_AUTO_TEST_CASE(a_kernel_before_6_7_says_that_it_cannot, *needs_an_older_kernel) {
  const mapped memory(4);
  pagemap_source source({memory.block()});
  const auto refused = source.start();
  BOOST_TEST(says(refused, "needs Linux 6.7, and this is "));
  BOOST_CHECK(refused.error().what == operation::start_dirty_tracking);
  source.stop();
}

BOOST_AUTO_TEST_CASE(what_is_missing_is_named) {
  const mapped memory(4);
  const std::vector<seen_memory> all{{memory.page(0), memory.bytes(), 0, 0}};
  calls_of_test calls;
  refusing_files no_device("/dev/userfaultfd", EACCES);
  dirty::pagemap_tracker sandboxed(all, no_device, calls);
  BOOST_TEST(says(sandboxed.start(), "seccomp"));
  calls.userfaultfd_answer = -ENOSYS;
  BOOST_TEST(says(sandboxed.start(), "CONFIG_USERFAULTFD"));

  tests::ruled_kernel old(kernel::host_kernel());
  old.set_rule(tests::refuses(UFFDIO_API, EINVAL));
  calls.userfaultfd_answer = ::open("/dev/null", O_RDWR);
  dirty::pagemap_tracker on_old(all, old, calls);
  const auto refused = on_old.start();
  BOOST_TEST(says(refused, "needs Linux 6.7"));
  BOOST_TEST(refused.error().code.value() == EINVAL);
}

BOOST_AUTO_TEST_CASE(a_pagemap_that_cannot_be_opened_is_named, *needs_the_kernel) {
  const mapped memory(4);
  const std::vector<seen_memory> all{{memory.page(0), memory.bytes(), 0, 0}};
  refusing_files changed_user("/proc/self/pagemap", EACCES);
  dirty::pagemap_tracker shy(all, changed_user, dirty::system_calls());
  BOOST_TEST(says(shy.start(), "PR_SET_DUMPABLE"));
  refusing_files no_proc("/proc/self/pagemap", ENOENT);
  dirty::pagemap_tracker bare(all, no_proc, dirty::system_calls());
  BOOST_TEST(says(bare.start(), "is /proc mounted?"));
}

BOOST_AUTO_TEST_CASE(the_device_serves_where_the_system_call_is_refused, *needs_the_kernel) {
  if (::access("/dev/userfaultfd", R_OK | W_OK) != 0) return;
  const mapped memory(4);
  struct refused final : dirty::memory_calls {
    int userfaultfd(int) noexcept override { return -EPERM; }
    bool mapped(std::byte* host, std::uint64_t bytes) noexcept override { return dirty::system_calls().mapped(host, bytes); }
  } calls;
  dirty::pagemap_tracker tracker({{memory.page(0), memory.bytes(), 3, 0}}, kernel::host_kernel(), calls);
  must(tracker.start());
  memory.write(2);
  BOOST_CHECK((harvested(tracker) == pages_of{{3, 2}}));
}

// A scan that fails in the middle, and a start that fails after it registered memory.
BOOST_AUTO_TEST_CASE(a_failed_call_is_an_error_and_leaves_nothing_registered, *needs_the_kernel) {
  const mapped memory(4);
  tests::ruled_kernel kernel(kernel::host_kernel());
  dirty::pagemap_tracker tracker({{memory.page(0), memory.bytes(), 0, 0}}, kernel, dirty::system_calls());
  kernel.set_rule(tests::refuses(UFFDIO_WRITEPROTECT, EAGAIN));
  BOOST_TEST(says(tracker.start(), "UFFDIO_WRITEPROTECT of memory"));
  kernel.set_rule({});
  pagemap_source other({memory.block()});
  must(other.start());
  other.stop();
  must(tracker.start());
  kernel.set_rule(tests::refuses(dirty::linux_newer::pagemap_scan, EFAULT));
  BOOST_TEST(says(failed_harvest(tracker), "PAGEMAP_SCAN of memory"));
  kernel.set_rule([](unsigned long request, std::uintptr_t) {
    return request == dirty::linux_newer::pagemap_scan ? std::optional(0) : std::nullopt;  // walk_end where it began
  });
  BOOST_TEST(says(failed_harvest(tracker), "Input/output error"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark
