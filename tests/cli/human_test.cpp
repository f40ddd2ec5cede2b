// SPDX-License-Identifier: Apache-2.0

#include "cli/human.hpp"

#include <boost/test/unit_test.hpp>

#include <limits>

#include "cli/markup.hpp"

using namespace std::chrono_literals;
using namespace tidemark::cli;

BOOST_AUTO_TEST_SUITE(human)

BOOST_AUTO_TEST_CASE(bytes_have_three_digits_and_the_unit_that_fits) {
  BOOST_TEST(human_bytes(0) == "0 B");
  BOOST_TEST(human_bytes(999) == "999 B");
  BOOST_TEST(human_bytes(1000) == "0.98 KiB");
  BOOST_TEST(human_bytes(96 << 20) == "96.0 MiB");
  BOOST_TEST(human_bytes(5ull << 28) == "1.25 GiB");
  BOOST_TEST(human_bytes(8ull << 40) == "8.00 TiB");
  BOOST_TEST(human_rate(402 << 20) == "402 MiB/s");
}

BOOST_AUTO_TEST_CASE(times_from_nanoseconds_to_hours) {
  BOOST_TEST(human_time(0ns) == "0 ms");
  BOOST_TEST(human_time(100ns) == "0.1 us");
  BOOST_TEST(human_time(850us) == "850 us");
  BOOST_TEST(human_time(999'600ns) == "1.0 ms");
  BOOST_TEST(human_time(2500us) == "2.5 ms");
  BOOST_TEST(human_time(38ms) == "38 ms");
  BOOST_TEST(human_time(2310ms) == "2.31 s");
  BOOST_TEST(human_time(75s) == "75.0 s");
  BOOST_TEST(human_time(185s) == "3 min 5 s");
  BOOST_TEST(human_time(2h + 10min) == "2 h 10 min");
}

BOOST_AUTO_TEST_CASE(shares) {
  BOOST_TEST(human_share(1, 0) == "-");
  BOOST_TEST(human_share(0, 7) == "0 %");
  BOOST_TEST(human_share(1, 100'000) == "< 0.1 %");
  BOOST_TEST(human_share(42, 1000) == "4.2 %");
  BOOST_TEST(human_share(38, 100) == "38 %");
}

BOOST_AUTO_TEST_CASE(short_ones_drop_digits_that_say_nothing) {
  BOOST_TEST(short_bytes(8ull << 30) == "8 GiB");
  BOOST_TEST(short_bytes(3ull << 29) == "1.5 GiB");
  BOOST_TEST(short_bytes(100ull << 30) == "100 GiB");
  BOOST_TEST(short_bytes(0) == "0 B");
  BOOST_TEST(short_time(1s) == "1 s");
  BOOST_TEST(short_time(1500ms) == "1.5 s");
  BOOST_TEST(short_time(200ms) == "200 ms");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(markup)

BOOST_AUTO_TEST_CASE(what_means_something_is_escaped) {
  BOOST_TEST(escaped("<b a=\"1\" c='2'>&") == "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;");
  BOOST_TEST(escaped("plain text\n\t") == "plain text\n\t");
}

BOOST_AUTO_TEST_CASE(what_xml_cannot_hold_is_replaced) {
  BOOST_TEST(escaped(std::string_view("a\0b\x1b[1m\x7f", 8)) ==
             "a\xef\xbf\xbd"
             "b\xef\xbf\xbd[1m\xef\xbf\xbd");
  // Good UTF-8 of two, three and four bytes stays.
  BOOST_TEST(escaped("\xc2\xb5 \xe2\x82\xac \xf0\x9f\x98\x80") == "\xc2\xb5 \xe2\x82\xac \xf0\x9f\x98\x80");
  // A lone continuation, one cut off, one overlong, a surrogate, U+FFFE, above U+10FFFF: a mark for each byte.
  BOOST_TEST(escaped("\x80") == "\xef\xbf\xbd");
  for (const auto* bad : {"\xe2\x82", "\xc0\xbc"}) BOOST_TEST(escaped(bad) == "\xef\xbf\xbd\xef\xbf\xbd");
  for (const auto* bad : {"\xe0\x80\xbc", "\xed\xa0\x80", "\xef\xbf\xbe"})
    BOOST_TEST(escaped(bad) == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  BOOST_TEST(escaped("\xf4\x90\x80\x80") == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

BOOST_AUTO_TEST_SUITE_END()
