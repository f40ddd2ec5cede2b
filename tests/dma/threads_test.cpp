// SPDX-License-Identifier: Apache-2.0

#include <tidemark/threads.hpp>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <memory>
#include <semaphore>
#include <thread>

using namespace tidemark;

BOOST_AUTO_TEST_SUITE(worker_threads)

BOOST_AUTO_TEST_CASE(a_wake_runs_the_job_on_a_thread_of_its_own) {
  std::binary_semaphore ran(0);
  std::thread::id where;
  const auto worker = thread_workers().make("test", [&] {
    where = std::this_thread::get_id();
    ran.release();
  });
  worker->wake();
  ran.acquire();
  BOOST_TEST((where != std::this_thread::get_id()));
}

BOOST_AUTO_TEST_CASE(a_wake_from_inside_the_job_or_while_it_runs_runs_it_again) {
  std::binary_semaphore twice(0);
  int runs = 0;
  std::unique_ptr<worker> self;
  self = thread_workers().make("test", [&] {
    if (++runs == 1) self->wake();
    if (runs == 2) twice.release();
  });
  self->wake();
  twice.acquire();
  self.reset();
  BOOST_TEST(runs == 2);
}

BOOST_AUTO_TEST_CASE(an_end_waits_for_the_run_under_way) {
  std::binary_semaphore begun(0);
  std::atomic<bool> ended = false;
  auto worker = thread_workers().make("a name that is longer than fifteen", [&] {
    begun.release();
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    ended = true;
  });
  worker->wake();
  begun.acquire();
  worker.reset();
  BOOST_TEST(ended.load());
}

BOOST_AUTO_TEST_CASE(a_worker_never_woken_runs_nothing) {
  bool ran = false;
  thread_workers().make("test", [&] { ran = true; }).reset();
  BOOST_TEST(!ran);
}

BOOST_AUTO_TEST_SUITE_END()
