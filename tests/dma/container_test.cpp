// SPDX-License-Identifier: Apache-2.0
//
// A container as an embedder uses it: every kind of completion token, cancellation, its own and another executor, its end.

#include <tidemark/container.hpp>

#include <linux/vfio.h>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <functional>
#include <future>
#include <memory>
#include <semaphore>
#include <thread>
#include <vector>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;
namespace asio = boost::asio;

namespace {

bool aborted(const error& failure) { return failure.code == asio::error::operation_aborted; }

/// Threads that tell when they are about to be ended.
class telling_workers final : public workers {
 public:
  explicit telling_workers(std::function<void()> about_to_end) : about_to_end_(std::move(about_to_end)) {}
  std::unique_ptr<worker> make(const std::string& name, std::function<void()> job) override {
    return std::make_unique<telling>(thread_workers().make(name, std::move(job)), about_to_end_);
  }

 private:
  class telling final : public worker {
   public:
    telling(std::unique_ptr<worker> hand, std::function<void()> about_to_end)
        : hand_(std::move(hand)), tell_(std::move(about_to_end)) {}
    ~telling() override { tell_(); }
    void wake() noexcept override { hand_->wake(); }

   private:
    std::unique_ptr<worker> hand_;
    std::function<void()> tell_;
  };
  std::function<void()> about_to_end_;
};

/// Counts what was taken from it and not given back.
template <class T>
struct counting_allocator {
  using value_type = T;

  explicit counting_allocator(int& count) noexcept : held(&count) {}
  template <class U>
  counting_allocator(const counting_allocator<U>& other) noexcept : held(other.held) {}

  T* allocate(std::size_t count) {
    ++*held;
    return std::allocator<T>().allocate(count);
  }
  void deallocate(T* memory, std::size_t count) noexcept {
    --*held;
    std::allocator<T>().deallocate(memory, count);
  }
  friend bool operator==(const counting_allocator&, const counting_allocator&) = default;

  int* held;
};

/// A container of group 0 on a loop and workers driven by hand.
struct by_hand : bench {
  explicit by_hand(kernel::model_options options = {}) : bench(std::move(options)) {
    here.emplace(loop.get_executor(), files, threads);
    BOOST_REQUIRE(done<container_info>([&](auto token) { here->async_connect(0, std::move(token)); }));
  }

  mapping pages_at(std::uint64_t iova, std::uint64_t pages) const { return {{iova, pages * page}, ram.data(), true}; }

  memory ram{64};
  std::optional<container> here;
};

/// A container of group 0 on a program's own loop, with threads.
struct threaded {
  threaded() {
    auto connected = here.async_connect(0, asio::use_future);
    context.run();
    context.restart();
    BOOST_REQUIRE(connected.get().has_value());
  }

  mapping pages_at(std::uint64_t iova, std::uint64_t pages) const { return {{iova, pages * page}, ram.data(), true}; }

  kernel::model model;
  asio::io_context context;
  memory ram{64};
  container here{context.get_executor(), model, thread_workers()};
};

}  // namespace

BOOST_AUTO_TEST_SUITE(containers)

// covers R14
BOOST_FIXTURE_TEST_CASE(a_callback_is_called_once_and_never_inside_the_call, by_hand) {
  BOOST_TEST(done([&](auto token) { here->async_map(pages_at(0, 4), std::move(token)); }).has_value());
  BOOST_TEST(model.mapping_count() == 1U);
  BOOST_TEST(done<std::uint64_t>([&](auto token) {
               here->async_unmap({0, 4 * page}, std::move(token));
             }).value() == 4 * page);
  BOOST_TEST(model.mapping_count() == 0U);
}

BOOST_FIXTURE_TEST_CASE(a_handlers_allocator_has_its_memory_back_before_the_handler_is_called, by_hand) {
  int held = 0;
  int held_then = -1;
  const auto handler = [&] {
    return asio::bind_allocator(counting_allocator<void>(held), [&](const result<void>&) { held_then = held; });
  };
  here->async_map(pages_at(0, 1), handler());
  BOOST_TEST(held == 1);
  settle();
  BOOST_TEST(held_then == 0);
  here->async_map(pages_at(page, 1), handler());
  here.reset();
  settle();
  BOOST_TEST(held == 0);
}

BOOST_FIXTURE_TEST_CASE(a_failure_carries_the_range_and_the_answer, by_hand) {
  const auto failed = done([&](auto token) { here->async_map(pages_at(1, 1), std::move(token)); });
  BOOST_TEST(failed.error().code.value() == EINVAL);
  BOOST_TEST((failed.error().what == operation::map));
  BOOST_TEST((failed.error().range == iova_range{1, page}));
}

BOOST_FIXTURE_TEST_CASE(requests_are_carried_out_in_the_order_of_the_calls, by_hand) {
  std::string log;
  here->async_map(pages_at(0, 4), [&](const result<void>& mapped) { log += mapped ? 'm' : '!'; });
  here->async_unmap({0, 4 * page},
                    [&](const result<std::uint64_t>& unmapped) { log += unmapped.value() == 4 * page ? 'u' : '!'; });
  here->async_map(pages_at(0, 2), [&](const result<void>& mapped) { log += mapped ? 'm' : '!'; });
  settle();
  BOOST_TEST(log == "mum");
  BOOST_TEST(model.mapping_count() == 1U);
}

BOOST_FIXTURE_TEST_CASE(a_future_is_made_and_the_loop_runs_until_it_is_there, threaded) {
  auto mapped = here.async_map(pages_at(0, 4), asio::use_future);
  auto unmapped = here.async_unmap({0, 4 * page}, asio::use_future);
  context.run();
  BOOST_TEST(mapped.get().has_value());
  BOOST_TEST(unmapped.get().value() == 4 * page);
}

// covers R17 R26
BOOST_FIXTURE_TEST_CASE(a_coroutine_awaits_every_operation, threaded) {
  bool ended = false;
  asio::co_spawn(
      context,
      [&]() -> asio::awaitable<void> {
        BOOST_TEST((co_await here.async_map(pages_at(0, 4), asio::use_awaitable)).has_value());
        auto opened = co_await here.async_open_device(0, "tidemark-test.0", asio::use_awaitable);
        BOOST_REQUIRE(opened.has_value());
        BOOST_TEST((co_await here.async_start_dirty_tracking(asio::use_awaitable)).has_value());
        const tidemark_test_doorbell bell{2 * page, 8, 1};
        BOOST_TEST(model.write(opened->file(), &bell, sizeof bell) == ssize_t{sizeof bell});
        std::vector<std::uint64_t> dirty(1);
        BOOST_TEST((co_await here.async_query_dirty({0, 4 * page}, dirty, asio::use_awaitable)).has_value());
        BOOST_TEST(dirty[0] == 4U);
        BOOST_TEST((co_await here.async_unmap({0, 4 * page}, dirty, asio::use_awaitable)).value() == 4 * page);
        BOOST_TEST(dirty[0] == 0U);
        BOOST_TEST((co_await here.async_stop_dirty_tracking(asio::use_awaitable)).has_value());
        const auto failed = co_await here.async_unmap({1, page}, asio::use_awaitable);
        BOOST_TEST(failed.error().code.value() == EINVAL);
        ended = true;
      },
      asio::detached);
  context.run();
  BOOST_TEST(ended);
}

BOOST_FIXTURE_TEST_CASE(a_deferred_operation_begins_when_it_is_called, by_hand) {
  auto later = here->async_map(pages_at(0, 4), asio::deferred);
  settle();
  BOOST_TEST(model.mapping_count() == 0U);
  std::optional<result<void>> mapped;
  std::move(later)(into(mapped));
  settle();
  BOOST_TEST(mapped->has_value());
  BOOST_TEST(model.mapping_count() == 1U);
}

BOOST_FIXTURE_TEST_CASE(a_waiting_request_is_cancelled_at_once_and_the_others_go_on, by_hand) {
  asio::cancellation_signal cancel;
  std::optional<result<void>> first;
  std::optional<result<void>> second;
  here->async_map(pages_at(0, 1), into(first));
  here->async_map(pages_at(page, 1), asio::bind_cancellation_slot(cancel.slot(), into(second)));
  cancel.emit(asio::cancellation_type::total);
  BOOST_TEST(!second.has_value());  // not inside emit()
  loop.run_until_idle();            // and no worker ran
  BOOST_TEST(aborted(second->error()));
  BOOST_TEST((second->error().range == iova_range{page, page}));
  settle();
  BOOST_TEST(first->has_value());
  BOOST_TEST(model.mapping_count() == 1U);
  cancel.emit(asio::cancellation_type::total);  // nobody is there any more
}

BOOST_FIXTURE_TEST_CASE(a_request_that_was_carried_out_completes_with_what_is_true, by_hand) {
  for (const auto type :
       {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total}) {
    asio::cancellation_signal cancel;
    std::optional<result<void>> mapped;
    here->async_map(pages_at(0, 1), asio::bind_cancellation_slot(cancel.slot(), into(mapped)));
    BOOST_REQUIRE(threads.run());
    cancel.emit(type);
    settle();
    BOOST_TEST(mapped->has_value());
    BOOST_TEST(done<std::uint64_t>([&](auto token) { here->async_unmap({0, page}, std::move(token)); }).value() == page);
  }
}

BOOST_FIXTURE_TEST_CASE(while_an_ioctl_blocks_waiting_requests_are_cancelled_at_once, threaded) {
  std::binary_semaphore blocked(0);
  std::binary_semaphore go_on(0);
  ruled_kernel slow(model);
  slow.set_rule([&](unsigned long request, std::uintptr_t) -> std::optional<int> {
    if (request == VFIO_IOMMU_MAP_DMA) {
      blocked.release();
      go_on.acquire();
    }
    return std::nullopt;
  });
  container other(context.get_executor(), slow, thread_workers());
  asio::cancellation_signal cancel_running;
  asio::cancellation_signal cancel_waiting;
  std::optional<result<void>> running;
  std::optional<result<void>> waiting;
  std::optional<result<container_info>> connected;
  other.async_connect(1, into(connected));
  context.run();
  context.restart();
  BOOST_REQUIRE(connected->has_value());

  other.async_map(pages_at(0, 1), asio::bind_cancellation_slot(cancel_running.slot(), into(running)));
  blocked.acquire();
  other.async_map(pages_at(page, 1), asio::bind_cancellation_slot(cancel_waiting.slot(), into(waiting)));
  cancel_running.emit(asio::cancellation_type::total);
  cancel_waiting.emit(asio::cancellation_type::total);
  context.run_one();
  BOOST_TEST(!running.has_value());
  BOOST_TEST(aborted(waiting->error()));
  go_on.release();
  context.run();
  BOOST_TEST(running->has_value());
}

BOOST_FIXTURE_TEST_CASE(a_handler_completes_on_its_own_executor, threaded) {
  asio::io_context of_handler;
  std::optional<result<void>> mapped;
  here.async_map(pages_at(0, 1), asio::bind_executor(of_handler.get_executor(), [&](result<void> outcome) {
                   BOOST_TEST(of_handler.get_executor().running_in_this_thread());
                   mapped.emplace(std::move(outcome));
                 }));
  of_handler.poll();
  BOOST_TEST(!of_handler.stopped());
  context.run();
  BOOST_TEST(!mapped.has_value());
  of_handler.run();
  BOOST_TEST(mapped->has_value());
}

// The slot belongs to the handler's executor: a signal may come there for as long as the handler has not been called.
BOOST_FIXTURE_TEST_CASE(a_signal_may_come_between_the_end_of_a_request_and_its_handler, threaded) {
  asio::io_context of_handler;
  asio::cancellation_signal cancel;
  std::optional<result<void>> mapped;
  here.async_map(pages_at(0, 1),
                 asio::bind_cancellation_slot(cancel.slot(), asio::bind_executor(of_handler.get_executor(), into(mapped))));
  context.run();
  cancel.emit(asio::cancellation_type::total);
  of_handler.run();
  BOOST_TEST(mapped->has_value());
}

// For the thread sanitizer: the slot is touched by the handler's thread and by no other.
BOOST_FIXTURE_TEST_CASE(signals_on_the_handlers_thread_meet_completions_on_the_containers, threaded) {
  asio::io_context of_handler;
  auto keep = asio::make_work_guard(context);
  std::thread loop([&] { context.run(); });
  int ended = 0;
  std::vector<asio::cancellation_signal> cancel(500);
  for (std::uint64_t i = 0; i < cancel.size(); ++i) {
    here.async_map(pages_at(i * page, 1),
                   asio::bind_cancellation_slot(
                       cancel[i].slot(), asio::bind_executor(of_handler.get_executor(), [&](const result<void>& mapped) {
                         BOOST_TEST((mapped || aborted(mapped.error())));
                         ++ended;
                       })));
    asio::post(of_handler, [&, i] { cancel[i].emit(asio::cancellation_type::total); });
    of_handler.poll_one();
  }
  of_handler.run();
  BOOST_TEST(ended == 500);
  keep.reset();
  loop.join();
}

BOOST_FIXTURE_TEST_CASE(one_request_more_than_may_be_under_way_is_refused, by_hand) {
  std::size_t good = 0;
  std::size_t refused = 0;
  const auto count = [&](const result<std::uint64_t>& outcome) {
    if (outcome) return void(++good);
    BOOST_TEST(outcome.error().code == make_error_code(errc::queue_full));
    ++refused;
  };
  for (std::size_t i = 0; i < container::queue_max + 3; ++i) here->async_unmap({0, page}, count);
  settle();
  BOOST_TEST(good == container::queue_max);
  BOOST_TEST(refused == 3U);
  here->async_unmap({0, page}, count);
  settle();
  BOOST_TEST(good == container::queue_max + 1);
}

BOOST_FIXTURE_TEST_CASE(the_end_of_a_container_aborts_what_waits_and_unmaps_what_is_left, by_hand) {
  BOOST_REQUIRE(done([&](auto token) { here->async_map(pages_at(0, 1), std::move(token)); }));
  std::optional<result<void>> waiting;
  here->async_map(pages_at(page, 1), into(waiting));
  here.reset();
  BOOST_TEST(model.open_descriptors() == 0U);
  BOOST_TEST(model.mapping_count() == 0U);
  BOOST_TEST(!waiting.has_value());
  settle();
  BOOST_TEST(aborted(waiting->error()));
}

// The whole batch had been taken up; only its first ioctl had begun.
BOOST_FIXTURE_TEST_CASE(the_end_of_a_container_waits_for_the_ioctl_under_way_and_for_no_other_of_its_batch, threaded) {
  std::binary_semaphore begun(0);
  std::binary_semaphore go_on(0);
  int maps = 0;
  ruled_kernel slow(model);
  slow.set_rule([&](unsigned long request, std::uintptr_t) -> std::optional<int> {
    if (request == VFIO_IOMMU_MAP_DMA && ++maps <= 2) {
      begun.release();
      go_on.acquire();
    }
    return std::nullopt;
  });
  telling_workers threads([&] { go_on.release(); });
  std::optional<container> other(std::in_place, context.get_executor(), slow, threads);
  std::optional<result<container_info>> connected;
  other->async_connect(1, into(connected));
  std::vector<std::optional<result<void>>> outcomes(64);
  other->async_map(pages_at(0, 1), into(outcomes[0]));
  begun.acquire();  // the first blocks: all others are one batch behind it
  for (std::uint64_t i = 1; i < outcomes.size(); ++i) other->async_map(pages_at(i * page, 1), into(outcomes[i]));
  go_on.release();
  begun.acquire();  // now the first of that batch does
  other.reset();
  context.run();
  std::size_t mapped = 0;
  for (const auto& outcome : outcomes) {
    BOOST_REQUIRE(outcome.has_value());
    BOOST_TEST((outcome->has_value() || aborted(outcome->error())));
    mapped += outcome->has_value() ? 1U : 0U;
  }
  BOOST_TEST(mapped == 2U);
  BOOST_TEST(maps == 2);
  BOOST_TEST(model.mapping_count() == 0U);
}

BOOST_FIXTURE_TEST_CASE(a_handler_may_end_its_container, by_hand) {
  bool ended = false;
  std::optional<result<void>> other;
  here->async_map(pages_at(0, 1), [&](const result<void>&) {
    here.reset();
    ended = true;
  });
  here->async_map(pages_at(page, 1), into(other));
  settle();
  BOOST_TEST(ended);
  BOOST_TEST(other->has_value());
  BOOST_TEST(model.open_descriptors() == 0U);
}

BOOST_AUTO_TEST_CASE(completions_that_nobody_waits_for_are_freed_with_the_loop) {
  auto owned = std::make_shared<int>();
  kernel::model model;
  {
    asio::io_context context;
    container here(context.get_executor(), model, thread_workers());
    here.async_connect(0, [owned](const result<container_info>&) {});
    here.async_open_device(0, "tidemark-test.0", [owned](const result<device>&) {});
    here.async_unmap({0, page}, [owned](const result<std::uint64_t>&) {});
  }
  BOOST_TEST(owned.use_count() == 1);
  BOOST_TEST(model.open_descriptors() == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
