// SPDX-License-Identifier: Apache-2.0
//
// The simulation can fail: stories with one part that is broken on purpose, each of a kind that the engine could be itself.

#include <linux/vfio.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstring>

#include "simulation/kernels.hpp"
#include "simulation/story.hpp"

namespace tidemark::simulation {

using tests::dirty_pages_flags;

namespace {

using ring::task;

/// Whether one of a handful of stories breaks this promise.
bool noticed(const replacements& with, const std::string& promise) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const auto broken = tell(seed, with, 3'000'000).broken;
    if (std::find(broken.begin(), broken.end(), promise) != broken.end()) return true;
  }
  return false;
}

/// A kernel that does `Call` in place of an ioctl.
template <class Call>
class spoilt_kernel final : public kernel::passing {
 public:
  spoilt_kernel(kernel::files& below, Call call) : passing(below), call_(std::move(call)) {}
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    return call_(request, argument, [&] { return passing::ioctl(fd, request, argument); });
  }

 private:
  Call call_;
};

template <class Call>
replacements kernel_that(Call call) {
  replacements with;
  with.kernel = [call](kernel::files& below) { return std::make_unique<spoilt_kernel<Call>>(below, call); };
  return with;
}

void forget(const vfio_bitmap& told) { std::memset(told.data, 0, told.size); }

/// Flips a bit in the first byte of each long read.
class flipping_stream final : public ring::byte_stream {
 public:
  explicit flipping_stream(std::unique_ptr<ring::byte_stream> below) : below_(std::move(below)) {}
  task<result<void>> write(std::span<iovec> parts) override { return below_->write(parts); }
  task<result<void>> read(std::span<iovec> parts) override {
    auto* first = static_cast<std::byte*>(parts.front().iov_base);
    const bool pages = parts.front().iov_len % page_bytes == 0;
    auto done = co_await below_->read(parts);
    if (done && pages) *first ^= std::byte{1};
    co_return done;
  }
  task<result<std::size_t>> read_some(std::span<std::byte> into) override { return below_->read_some(into); }
  void end_writing() noexcept override { below_->end_writing(); }
  void close() noexcept override { below_->close(); }

 private:
  std::unique_ptr<ring::byte_stream> below_;
};

/// Forgets the first page that every third harvest tells of.
class losing_source final : public cpu_dirty_source {
 public:
  explicit losing_source(cpu_dirty_source& below) : below_(below) {}
  std::string_view name() const noexcept override { return below_.name(); }
  result<void> harvest(page_sink& to) override {
    if (++harvests_ % 3 != 0) return below_.harvest(to);
    losing_sink through(to);
    return below_.harvest(through);
  }

 private:
  struct losing_sink final : page_sink {
    explicit losing_sink(page_sink& to) : to_(to) {}
    void merge(block_index block, std::uint64_t first_page, std::uint64_t pages,
               std::span<const std::uint64_t> bits) override {
      std::vector<std::uint64_t> fewer(bits.begin(), bits.end());
      for (auto& word : fewer) {
        if (word == 0 || std::exchange(lost_, true)) continue;
        word &= word - 1;
      }
      to_.merge(block, first_page, pages, fewer);
    }
    void mark(page_run pages) override { to_.mark(pages); }

   private:
    page_sink& to_;
    bool lost_ = false;
  };

  cpu_dirty_source& below_;
  unsigned harvests_ = 0;
};

/// Answers for the true one, and does only what it is told to.
class lazy_guest final : public guest {
 public:
  lazy_guest(guest& below, any_io_executor executor, bool pauses)
      : below_(below), executor_(std::move(executor)), pauses_(pauses) {}
  void start_pause(completion<void> done) override {
    pauses_ ? below_.start_pause(std::move(done)) : answer(std::move(done));
  }
  void start_resume(completion<void> done) override {
    pauses_ ? answer(std::move(done)) : below_.start_resume(std::move(done));
  }

 private:
  void answer(completion<void> done) {
    boost::asio::post(executor_, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
  }

  guest& below_;
  any_io_executor executor_;
  bool pauses_;
};

replacements guest_that(bool pauses) {
  replacements with;
  with.source_guest = [pauses](guest& below, any_io_executor at) {
    return std::make_unique<lazy_guest>(below, std::move(at), pauses);
  };
  return with;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(canaries)

BOOST_AUTO_TEST_CASE(a_kernel_that_forgets_the_dirty_pages_of_an_unmap_is_noticed) {
  const auto with = kernel_that([](unsigned long request, std::uintptr_t argument, auto pass) {
    const int answer = pass();
    auto* asked = reinterpret_cast<vfio_iommu_type1_dma_unmap*>(argument);
    if (request == VFIO_IOMMU_UNMAP_DMA && (asked->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP))
      forget(*reinterpret_cast<vfio_bitmap*>(asked->data));
    return answer;
  });
  BOOST_TEST(noticed(with, "the destination runs with other memory"));
}

BOOST_AUTO_TEST_CASE(a_kernel_that_forgets_the_dirty_pages_of_a_query_is_noticed) {
  const auto with = kernel_that([](unsigned long request, std::uintptr_t argument, auto pass) {
    const int answer = pass();
    if (dirty_pages_flags(request, argument) == VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP)
      forget(reinterpret_cast<vfio_iommu_type1_dirty_bitmap_get*>(argument + sizeof(vfio_iommu_type1_dirty_bitmap))->bitmap);
    return answer;
  });
  BOOST_TEST(noticed(with, "the destination runs with other memory"));
}

BOOST_AUTO_TEST_CASE(a_kernel_in_which_everything_is_always_dirty_is_noticed) {
  const auto with = kernel_that([](unsigned long request, std::uintptr_t argument, auto pass) {
    const int answer = pass();
    if (dirty_pages_flags(request, argument) == VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP) {
      const auto& told =
          reinterpret_cast<vfio_iommu_type1_dirty_bitmap_get*>(argument + sizeof(vfio_iommu_type1_dirty_bitmap))->bitmap;
      std::memset(told.data, 0xff, told.size);
    }
    return answer;
  });
  BOOST_TEST(noticed(with, "pages were sent again that nobody wrote"));
}

BOOST_AUTO_TEST_CASE(tracking_that_does_not_stop_is_noticed) {
  const auto with = kernel_that([](unsigned long request, std::uintptr_t argument, auto pass) {
    if (dirty_pages_flags(request, argument) == VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP) return 0;
    return pass();
  });
  BOOST_TEST(noticed(with, "tracking is on after the migration"));
}

BOOST_AUTO_TEST_CASE(an_unmap_that_does_nothing_is_noticed) {
  const auto with = kernel_that(
      [](unsigned long request, std::uintptr_t, auto pass) { return request == VFIO_IOMMU_UNMAP_DMA ? 0 : pass(); });
  BOOST_TEST(noticed(with, "the kernel's mappings are not the address space's regions"));
}

BOOST_AUTO_TEST_CASE(a_cpu_source_that_loses_a_page_is_noticed) {
  replacements with;
  with.cpu_source = [](cpu_dirty_source& below) { return std::make_unique<losing_source>(below); };
  BOOST_TEST(noticed(with, "the destination runs with other memory"));
}

// The migration notices itself: pages have checksums. So it fails, and in a story nothing may fail twice.
BOOST_AUTO_TEST_CASE(a_network_that_flips_a_bit_of_a_page_is_noticed) {
  replacements with;
  with.destination_stream = [](auto below) { return std::make_unique<flipping_stream>(std::move(below)); };
  BOOST_TEST(noticed(with, "a migration fails though nothing broke"));
}

BOOST_AUTO_TEST_CASE(a_guest_that_is_not_paused_is_noticed) { BOOST_TEST(noticed(guest_that(false), "both sides run")); }

BOOST_AUTO_TEST_CASE(a_guest_that_is_not_resumed_is_noticed) {
  BOOST_TEST(noticed(guest_that(true), "a failed migration, and nobody runs"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::simulation
