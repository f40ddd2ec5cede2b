// SPDX-License-Identifier: Apache-2.0

#include <tidemark/error.hpp>

#include <boost/system/system_error.hpp>
#include <boost/test/unit_test.hpp>

#include <cerrno>

namespace tidemark {

BOOST_AUTO_TEST_CASE(an_error_is_one_line_with_its_context) {
  auto failure = kernel_error(operation::map, ENOMEM, {0x1000, 0x2000}, "raise the limit");
  failure.undone = "nothing was mapped";
  BOOST_TEST(failure.message() == "map [0x1000, +0x2000): Cannot allocate memory: raise the limit (nothing was mapped)");
  BOOST_TEST(failure.code == boost::system::errc::not_enough_memory);
}

BOOST_AUTO_TEST_CASE(an_error_without_range_and_cause_says_only_what_it_knows) {
  BOOST_TEST(make_error(operation::migrate, errc::peer_closed).message() == "migrate: the peer closed the connection");
}

BOOST_AUTO_TEST_CASE(value_throws_for_those_who_want_exceptions) {
  const result<int> failed = make_error(operation::open_group, errc::group_not_viable, {}, "bind it");
  BOOST_CHECK_EXCEPTION(failed.value(), boost::system::system_error,
                        [](const auto& thrown) { return thrown.code() == make_error_code(errc::group_not_viable); });
}

}  // namespace tidemark
