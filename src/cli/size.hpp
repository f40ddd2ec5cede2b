// SPDX-License-Identifier: Apache-2.0
//
// Sizes as people write them: "4GiB". Values only; any thread.

#pragma once

#include <boost/system/result.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace tidemark::cli {

/// A value, or what is wrong in words, without a full stop and without saying where.
struct problem {
  std::string text;
};
[[noreturn]] void throw_exception_from_error(const problem& what, const boost::source_location& where);

template <class T>
using checked = boost::system::result<T, problem>;

/// A whole number of bytes, alone or followed at once by KiB, MiB, GiB, TiB, K, M, G or T (all powers of 1024). Nothing
/// else.
checked<std::uint64_t> parse_size(std::string_view text);

/// A whole number in decimal digits. Nothing else.
checked<std::uint64_t> parse_number(std::string_view text);

/// The shortest exact writing that parse_size() takes: 1536 MiB is "1536MiB", 4097 is "4097".
std::string size_text(std::uint64_t bytes);

/// The text in quotes, fit for one line: control characters become '?'.
std::string in_quotes(std::string_view text);

}  // namespace tidemark::cli
