// SPDX-License-Identifier: Apache-2.0

#include "ring/work.hpp"

#include <boost/test/unit_test.hpp>

#include <memory>
#include <vector>

using namespace tidemark::ring;

BOOST_AUTO_TEST_SUITE(work_suite)

BOOST_AUTO_TEST_CASE(a_queue_is_first_in_first_out) {
  work_queue queue;
  std::vector<int> ran;
  BOOST_TEST(queue.empty());
  for (int i = 0; i < 3; ++i) queue.push(make_work([&ran, i] { ran.push_back(i); }));
  queue.pop()->run();
  queue.push(make_work([&ran] { ran.push_back(3); }));
  while (auto item = queue.pop()) item->run();
  BOOST_TEST(ran == (std::vector<int>{0, 1, 2, 3}), boost::test_tools::per_element());
  BOOST_TEST(queue.empty());
  BOOST_TEST(!queue.pop());
}

BOOST_AUTO_TEST_CASE(a_moved_queue_keeps_its_work_and_leaves_an_empty_one) {
  work_queue from;
  int ran = 0;
  from.push(make_work([&ran] { ++ran; }));
  work_queue to(std::move(from));
  BOOST_TEST(from.empty());
  from.push(make_work([&ran] { ran += 10; }));
  while (auto item = to.pop()) item->run();
  BOOST_TEST(ran == 1);
  to = std::move(from);
  while (auto item = to.pop()) item->run();
  BOOST_TEST(ran == 11);
}

BOOST_AUTO_TEST_CASE(a_million_pieces_of_work_are_destroyed_unrun_and_without_recursion) {
  auto counted = std::make_shared<int>(0);
  {
    work_queue queue;
    for (int i = 0; i < 1'000'000; ++i) queue.push(make_work([counted] { ++*counted; }));
  }
  BOOST_TEST(*counted == 0);
  BOOST_TEST(counted.use_count() == 1);
}

BOOST_AUTO_TEST_CASE(work_may_own_what_only_moves) {
  int seen = 0;
  auto item = make_work([value = std::make_unique<int>(7), &seen] { seen = *value; });
  item->run();
  BOOST_TEST(seen == 7);
}

BOOST_AUTO_TEST_SUITE_END()
