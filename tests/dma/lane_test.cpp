// SPDX-License-Identifier: Apache-2.0

#include "dma/lane.hpp"

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>
#include <boost/test/unit_test.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tidemark/error.hpp>
#include <utility>
#include <vector>

#include "dma/hand_workers.hpp"
#include "ring/executor.hpp"
#include "support/manual_loop.hpp"

using namespace tidemark;
using dma::lane;
using tests::hand_workers;
using tests::manual_loop;
namespace asio = boost::asio;

namespace {

/// A loop's executor that counts what is given to it.
class counting_executor {
 public:
  counting_executor(ring::executor inner, std::size_t& count) : inner_(inner), count_(&count) {}

  template <class Call>
  void execute(Call&& call) const {
    ++*count_;
    inner_.execute(std::forward<Call>(call));
  }
  asio::execution_context& query(asio::execution::context_t what) const noexcept { return inner_.query(what); }
  counting_executor require(asio::execution::blocking_t::never_t how) const noexcept {
    return {inner_.require(how), *count_};
  }
  counting_executor require(asio::execution::blocking_t::possibly_t how) const noexcept {
    return {inner_.require(how), *count_};
  }
  friend bool operator==(const counting_executor& a, const counting_executor& b) noexcept { return a.inner_ == b.inner_; }

 private:
  ring::executor inner_;
  std::size_t* count_;
};

/// Does nothing, and is done with all.
bool all_done(lane::batch& taken, lane::batch& done, const std::atomic<bool>&) {
  done.splice(done.end(), taken);
  return false;
}

/// What has become of the requests, in order: "+n" carried out, "n" completed, "-n" refused and completed.
struct journal {
  std::string text;
  std::size_t alive = 0;
  std::vector<boost::system::error_code> refusals;
};

class note : public lane::request {
 public:
  note(journal& to, int number) : to_(to), number_(number) { ++to_.alive; }
  ~note() override { --to_.alive; }
  void carry_out() { to_.text += "+" + std::to_string(number_) + " "; }
  void refuse(boost::system::error_code code) noexcept override { refused_ = code; }
  void complete(std::unique_ptr<request>&&) override {
    to_.text += (refused_ ? "-" : "") + std::to_string(number_) + " ";
    if (refused_) to_.refusals.push_back(*refused_);
    if (number_ == 13) throw std::runtime_error("a handler's own");
  }

 private:
  journal& to_;
  int number_;
  std::optional<boost::system::error_code> refused_;
};

struct fixture {
  explicit fixture(std::size_t queue_max = 8)
      : here(std::in_place, counting_executor(loop.get_executor(), posts), threads, "lane",
             lane::limits{.queue_max = queue_max, .in_place_max = 4},
             [](lane::batch& taken, lane::batch& done, const std::atomic<bool>&) {
               for (auto& item : taken) static_cast<note&>(item).carry_out();
               done.splice(done.end(), taken);
               return false;
             }) {}

  lane::canceller submit(int number, const dma::submission& how = {}) {
    auto item = std::make_unique<note>(notes, number);
    auto cancel = here->canceller_of(*item);
    here->submit(std::move(item), how);
    return cancel;
  }
  std::string said() { return std::exchange(notes.text, {}); }

  std::size_t posts = 0;
  journal notes;
  hand_workers threads;
  manual_loop loop;
  std::optional<lane> here;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(lanes)

BOOST_FIXTURE_TEST_CASE(a_batch_keeps_its_order_and_costs_one_wake_each_way, fixture) {
  for (int i = 1; i <= 5; ++i) submit(i);
  BOOST_TEST(threads.wakes() == 1U);
  BOOST_TEST(said().empty());
  BOOST_TEST(threads.run());
  BOOST_TEST(said() == "+1 +2 +3 +4 +5 ");
  BOOST_TEST(posts == 1U);
  loop.run_until_idle();
  BOOST_TEST(said() == "1 2 3 4 5 ");
  BOOST_TEST(posts == 1U);
  BOOST_TEST(notes.alive == 0U);
}

BOOST_FIXTURE_TEST_CASE(batches_that_end_before_the_loop_turns_share_its_wake, fixture) {
  submit(1);
  threads.run();
  submit(2);
  threads.run();
  BOOST_TEST(posts == 1U);
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 +2 1 2 ");
  submit(3);
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(posts == 2U);
  BOOST_TEST(threads.wakes() == 3U);
}

// --- what the executor carries out itself ---

BOOST_FIXTURE_TEST_CASE(what_has_a_cost_is_carried_out_in_the_next_turn_as_one_batch_without_a_wake, fixture) {
  for (int i = 1; i <= 4; ++i) submit(i, {.cost = 1});
  BOOST_TEST(said().empty());
  BOOST_TEST(posts == 1U);
  loop.turn();
  BOOST_TEST(said() == "+1 +2 +3 +4 1 2 3 4 ");
  BOOST_TEST(threads.wakes() == 0U);
  BOOST_TEST(posts == 1U);
  submit(5, {.cost = 4});
  loop.turn();
  BOOST_TEST(said() == "+5 5 ");
}

BOOST_FIXTURE_TEST_CASE(no_turn_carries_out_more_than_the_bound, fixture) {
  for (int i = 1; i <= 3; ++i) submit(i, {.cost = 2});
  loop.run_until_idle();
  BOOST_TEST(said().empty());
  BOOST_TEST(threads.wakes() == 1U);
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 +2 +3 1 2 3 ");
  submit(4, {.cost = 5});
  BOOST_TEST(threads.wakes() == 2U);  // at once: it may not wait
}

BOOST_FIXTURE_TEST_CASE(what_must_not_wait_takes_with_it_what_waits, fixture) {
  submit(1, {.cost = 1});
  submit(2);
  BOOST_TEST(threads.wakes() == 1U);
  submit(3, {.cost = 1});
  loop.turn();
  BOOST_TEST(said().empty());
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 +2 +3 1 2 3 ");
  BOOST_TEST(threads.wakes() == 1U);
}

BOOST_FIXTURE_TEST_CASE(what_gathers_waits_for_the_turn_and_is_the_workers_then, fixture) {
  for (int i = 1; i <= 3; ++i) submit(i, {.gathers = true});
  BOOST_TEST(threads.wakes() == 0U);
  loop.run_until_idle();
  BOOST_TEST(threads.wakes() == 1U);
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 +2 +3 1 2 3 ");
}

BOOST_FIXTURE_TEST_CASE(what_waits_for_the_turn_can_be_taken_out, fixture) {
  const auto cancel = submit(1, {.cost = 1});
  cancel(asio::cancellation_type::total);
  loop.run_until_idle();
  BOOST_TEST(said() == "-1 ");
  submit(2, {.cost = 1});
  loop.run_until_idle();
  BOOST_TEST(said() == "+2 2 ");
  BOOST_TEST(threads.wakes() == 0U);
}

BOOST_FIXTURE_TEST_CASE(what_waits_for_the_turn_ends_with_the_lane, fixture) {
  submit(1, {.cost = 1});
  here.reset();
  loop.run_until_idle();
  BOOST_TEST(said() == "-1 ");
  BOOST_TEST(notes.alive == 0U);
}

// The loop is in the lane, and its thread is the one that the request comes from.
BOOST_AUTO_TEST_CASE(what_comes_while_the_executor_is_in_the_lane_is_the_workers) {
  journal notes;
  manual_loop loop;
  hand_workers threads;
  std::optional<lane> here;
  here.emplace(loop.get_executor(), threads, "lane", lane::limits{.in_place_max = 4},
               [&, first = true](lane::batch& taken, lane::batch& done, const std::atomic<bool>&) mutable {
                 if (std::exchange(first, false)) here->submit(std::make_unique<note>(notes, 2), {.cost = 1});
                 for (auto& item : taken) static_cast<note&>(item).carry_out();
                 done.splice(done.end(), taken);
                 return false;
               });
  here->submit(std::make_unique<note>(notes, 1), {.cost = 1});
  loop.run_until_idle();
  BOOST_TEST(notes.text == "+1 1 ");
  BOOST_TEST(threads.wakes() == 1U);
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(notes.text == "+1 1 +2 2 ");
}

/// Runs `then` when it completes.
class follower final : public lane::request {
 public:
  explicit follower(std::function<void(boost::system::error_code)> then) : then_(std::move(then)) {}
  void refuse(boost::system::error_code code) noexcept override { refused_ = code; }
  void complete(std::unique_ptr<request>&& self) override {
    const auto then = std::move(then_);
    const auto code = refused_;
    self.reset();
    then(code);
  }

 private:
  std::function<void(boost::system::error_code)> then_;
  boost::system::error_code refused_;
};

// Another thread of the executor must find it, should this handler block.
BOOST_AUTO_TEST_CASE(what_a_handler_asks_for_has_a_turn_posted_before_the_handler_returns) {
  std::size_t posts = 0;
  manual_loop loop;
  hand_workers threads;
  lane here(counting_executor(loop.get_executor(), posts), threads, "lane", {.in_place_max = 4}, all_done);
  bool completed = false;
  here.submit(std::make_unique<follower>([&](auto) {
                const auto before = posts;
                here.submit(std::make_unique<follower>([&](auto) { completed = true; }), {.cost = 1});
                here.submit(std::make_unique<follower>([](auto) {}), {.cost = 1});
                BOOST_TEST(posts == before + 1);
              }),
              {.cost = 1});
  loop.turn();
  BOOST_TEST(completed);  // in the same turn all the same
}

BOOST_AUTO_TEST_CASE(a_turn_that_goes_on_has_one_other_posted_and_no_more) {
  std::size_t posts = 0;
  manual_loop loop;
  hand_workers threads;
  lane here(counting_executor(loop.get_executor(), posts), threads, "lane", {.in_place_max = 100}, all_done);
  int left = 60;
  std::function<void(boost::system::error_code)> again = [&](auto) {
    if (left-- > 0) here.submit(std::make_unique<follower>(again), {.cost = 1});
  };
  here.submit(std::make_unique<follower>(again), {.cost = 1});
  loop.turn();
  BOOST_TEST(left < 0);
  BOOST_TEST(posts == 2U);
}

BOOST_AUTO_TEST_CASE(who_is_refused_and_asks_again_lets_others_have_their_turn) {
  manual_loop loop;
  hand_workers threads;
  lane here(loop.get_executor(), threads, "lane", {.queue_max = 1, .in_place_max = 4}, all_done);
  here.submit(std::make_unique<follower>([](auto) {}));
  int tries = 0;
  std::function<void(boost::system::error_code)> again = [&](boost::system::error_code code) {
    if (code && ++tries < 1000) here.submit(std::make_unique<follower>(again), {.cost = 1});
  };
  here.submit(std::make_unique<follower>(again), {.cost = 1});
  loop.turn();
  BOOST_TEST(tries == 1);
  threads.run();
  loop.run_until_idle();
}

/// An io_context's executor that lets a test in behind each post.
template <class Inner>
struct hooked_executor {
  Inner inner;
  std::function<void()>* hook;

  template <class Call>
  void execute(Call&& call) const {
    inner.execute(std::forward<Call>(call));
    if (*hook) (*hook)();
  }
  template <class Property>
  auto query(const Property& what) const noexcept -> decltype(asio::query(inner, what)) {
    return asio::query(inner, what);
  }
  template <class Property>
  auto require(const Property& what) const -> hooked_executor<std::decay_t<decltype(asio::require(inner, what))>> {
    return {asio::require(inner, what), hook};
  }
  template <class Property>
  auto prefer(const Property& what) const -> hooked_executor<std::decay_t<decltype(asio::prefer(inner, what))>> {
    return {asio::prefer(inner, what), hook};
  }
  friend bool operator==(const hooked_executor& a, const hooked_executor& b) noexcept { return a.inner == b.inner; }
  friend bool operator!=(const hooked_executor& a, const hooked_executor& b) noexcept { return !(a == b); }
};

// The worker posts what it has done; before it looks into the inbox again, the executor completes that, is out of work but
// for what the handler posts, and somebody asks for something small. The worker takes it, and its turn finds nothing.
BOOST_AUTO_TEST_CASE(what_the_worker_takes_though_it_waited_for_a_turn_keeps_the_executor_at_work) {
  asio::io_context context;
  std::function<void()> hook;
  hand_workers threads;
  bool completed = false;
  int batches = 0;
  lane here(hooked_executor<asio::io_context::executor_type>{context.get_executor(), &hook}, threads, "lane",
            {.in_place_max = 4}, [&](lane::batch& taken, lane::batch& done, const std::atomic<bool>&) {
              if (++batches == 2) {
                context.poll();
                BOOST_TEST(!context.stopped());
              }
              done.splice(done.end(), taken);
              return false;
            });
  here.submit(std::make_unique<follower>([&](auto) {
    asio::post(context, [&] { here.submit(std::make_unique<follower>([&](auto) { completed = true; }), {.cost = 1}); });
  }));
  hook = [&] {
    hook = {};
    context.run_one();
    context.run_one();
  };
  threads.run();
  BOOST_TEST(batches == 2);
  context.run();
  BOOST_TEST(completed);
}

BOOST_FIXTURE_TEST_CASE(a_waiting_request_can_be_taken_out, fixture) {
  submit(1);
  const auto cancel = submit(2);
  submit(3);
  cancel(asio::cancellation_type::total);
  cancel(asio::cancellation_type::total);
  BOOST_TEST(said().empty());
  loop.run_until_idle();
  BOOST_TEST(said() == "-2 ");
  BOOST_TEST(notes.refusals.back() == asio::error::operation_aborted);
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 +3 1 3 ");
}

BOOST_FIXTURE_TEST_CASE(taking_the_only_request_out_leaves_a_lane_that_still_wakes, fixture) {
  submit(1)(asio::cancellation_type::total);
  submit(2);
  BOOST_TEST(threads.wakes() == 2U);
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(said() == "+2 -1 2 ");
}

BOOST_FIXTURE_TEST_CASE(a_request_that_was_carried_out_cannot_be_taken_back, fixture) {
  const auto cancel = submit(1);
  threads.run();
  cancel(asio::cancellation_type::total);
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 1 ");
}

BOOST_FIXTURE_TEST_CASE(a_request_beyond_the_bound_is_refused, fixture) {
  for (int i = 1; i <= 9; ++i) submit(i);
  loop.run_until_idle();
  BOOST_TEST(said() == "-9 ");
  BOOST_TEST(notes.refusals.back() == make_error_code(errc::queue_full));
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 +2 +3 +4 +5 +6 +7 +8 1 2 3 4 5 6 7 8 ");
}

// Whoever submits from another thread than the loop's must not fill the memory of a loop that does not turn.
BOOST_FIXTURE_TEST_CASE(completions_that_nobody_fetches_count_against_the_bound, fixture) {
  for (int i = 1; i <= 8; ++i) submit(i);
  threads.run();
  submit(9);
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 +2 +3 +4 +5 +6 +7 +8 1 2 3 4 5 6 7 8 -9 ");
  for (int i = 1; i <= 8; ++i) submit(i);
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 +2 +3 +4 +5 +6 +7 +8 1 2 3 4 5 6 7 8 ");
}

BOOST_FIXTURE_TEST_CASE(requests_taken_out_make_room, fixture) {
  for (int round = 0; round < 100; ++round) submit(1)(asio::cancellation_type::total), loop.run_until_idle();
  said();
  for (int i = 1; i <= 8; ++i) submit(i);
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 +2 +3 +4 +5 +6 +7 +8 1 2 3 4 5 6 7 8 ");
}

BOOST_FIXTURE_TEST_CASE(closing_refuses_what_comes_and_aborts_what_waits, fixture) {
  const auto cancel = submit(1);
  here->close();
  cancel(asio::cancellation_type::total);
  submit(2);
  here->close();
  BOOST_TEST(said().empty());
  loop.run_until_idle();
  BOOST_TEST(said() == "-1 -2 ");
  BOOST_TEST(notes.refusals[0] == asio::error::operation_aborted);
  BOOST_TEST(notes.refusals[1] == make_error_code(errc::closed));
}

BOOST_FIXTURE_TEST_CASE(a_handler_that_throws_does_not_cost_the_others_their_completion, fixture) {
  for (const int number : {1, 13, 3, 4}) submit(number);
  threads.run();
  BOOST_CHECK_THROW(loop.run_until_idle(), std::runtime_error);
  BOOST_TEST(said() == "+1 +13 +3 +4 1 13 ");
  submit(5);
  threads.run();
  loop.run_until_idle();
  BOOST_TEST(said() == "+5 3 4 5 ");
  BOOST_TEST(notes.alive == 0U);
}

BOOST_FIXTURE_TEST_CASE(completions_outlive_the_lane, fixture) {
  const auto cancel = submit(1);
  threads.run();
  submit(2);
  here.reset();
  cancel(asio::cancellation_type::total);
  loop.run_until_idle();
  BOOST_TEST(said() == "+1 1 -2 ");
  BOOST_TEST(notes.alive == 0U);
}

BOOST_AUTO_TEST_CASE(what_nobody_fetches_is_freed_with_the_loop) {
  journal notes;
  {
    asio::io_context context;
    hand_workers threads;
    lane here(context.get_executor(), threads, "lane", {.queue_max = 8}, all_done);
    here.submit(std::make_unique<note>(notes, 1));
    threads.run();
    here.submit(std::make_unique<note>(notes, 2));
  }
  BOOST_TEST(notes.alive == 0U);
  BOOST_TEST(notes.text.empty());
}

BOOST_AUTO_TEST_CASE(a_request_may_be_submitted_from_a_completion) {
  struct again final : lane::request {
    again(lane& to, int times) : on(to), left(times) {}
    void refuse(boost::system::error_code) noexcept override {}
    void complete(std::unique_ptr<request>&&) override {
      if (left > 0) on.submit(std::make_unique<again>(on, left - 1));
    }
    lane& on;
    int left;
  };
  manual_loop loop;
  hand_workers threads;
  lane here(loop.get_executor(), threads, "lane", {.queue_max = 1}, all_done);
  here.submit(std::make_unique<again>(here, 9));
  do loop.run_until_idle();
  while (threads.run());
  BOOST_TEST(threads.wakes() == 10U);
}

BOOST_AUTO_TEST_SUITE_END()
