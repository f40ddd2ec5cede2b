// SPDX-License-Identifier: Apache-2.0

#include "cli/size.hpp"

#include <boost/test/unit_test.hpp>

#include <limits>

using namespace tidemark::cli;

namespace {

std::string why_not(std::string_view text) {
  const auto size = parse_size(text);
  return size ? "it is " + std::to_string(*size) : size.error().text;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(size)

BOOST_AUTO_TEST_CASE(takes_bytes_and_binary_units) {
  BOOST_TEST(parse_size("0").value() == 0u);
  BOOST_TEST(parse_size("4096").value() == 4096u);
  BOOST_TEST(parse_size("4KiB").value() == 4096u);
  BOOST_TEST(parse_size("4K").value() == 4096u);
  BOOST_TEST(parse_size("3MiB").value() == 3145728u);
  BOOST_TEST(parse_size("1G").value() == 1073741824u);
  BOOST_TEST(parse_size("8TiB").value() == 8796093022208u);
  BOOST_TEST(parse_size("18446744073709551615").value() == std::numeric_limits<std::uint64_t>::max());
}

BOOST_AUTO_TEST_CASE(refuses_all_else_and_says_why) {
  BOOST_TEST(why_not("12Q") == "\"12Q\" has the unknown unit \"Q\" (there are KiB, MiB, GiB and TiB)");
  for (const auto* text : {"12KB", "12 KiB", "12kib", "12KiB ", "12K1", "0x10", "1GiBGiB"}) {
    BOOST_TEST_CONTEXT(text) { BOOST_TEST(why_not(text).find("unknown unit") != std::string::npos); }
  }
  for (const auto* text : {"", "KiB", "-1", "+1", " 1", "1.5GiB", "1,5GiB"}) {
    BOOST_TEST_CONTEXT(text) { BOOST_TEST(why_not(text) == in_quotes(text) + " is no size such as 4096 or 64MiB"); }
  }
}

BOOST_AUTO_TEST_CASE(refuses_what_does_not_fit_in_64_bits) {
  BOOST_TEST(why_not("18446744073709551616") == "\"18446744073709551616\" is too large a size");
  BOOST_TEST(why_not("16777216TiB") == "\"16777216TiB\" is too large a size");
  BOOST_TEST(parse_size("16777215TiB").value() == 16777215ull << 40);
}

BOOST_AUTO_TEST_CASE(is_written_as_it_is_read) {
  BOOST_TEST(size_text(0) == "0");
  BOOST_TEST(size_text(4097) == "4097");
  BOOST_TEST(size_text(1536ull << 20) == "1536MiB");
  BOOST_TEST(size_text(1ull << 50) == "1024TiB");
  for (const std::uint64_t bytes : {1ull, 1023ull, 1024ull, 5ull << 30, std::numeric_limits<unsigned long long>::max()}) {
    BOOST_TEST(parse_size(size_text(bytes)).value() == bytes);
  }
}

BOOST_AUTO_TEST_CASE(quotes_fit_on_one_line) { BOOST_TEST(in_quotes("a\nb\tc\x7f") == "\"a?b?c?\""); }

BOOST_AUTO_TEST_SUITE_END()
