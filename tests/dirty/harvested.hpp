// SPDX-License-Identifier: Apache-2.0
//
// What the tests of sources ask of one. Threading: one thread.

#pragma once

#include <tidemark/dirty_source.hpp>

#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "support/marked_pages.hpp"

namespace tidemark::tests {

using pages_of = std::set<std::pair<block_index, std::uint64_t>>;

inline void must(const result<void>& outcome) {
  const auto words = outcome ? std::string() : outcome.error().message();
  BOOST_REQUIRE_MESSAGE(outcome.has_value(), words);
}

template <class Source>
pages_of harvested(Source& from) {
  marked_pages told;
  must(from.harvest(told));
  return told.pages;
}

/// The error of a harvest that fails.
template <class Source>
error failed_harvest(Source& from) {
  marked_pages told;
  const auto outcome = from.harvest(told);
  BOOST_REQUIRE(!outcome);
  return outcome.error();
}

inline bool says(const error& what, const std::string& text) {
  const bool found = what.message().find(text) != std::string::npos;
  BOOST_TEST_MESSAGE(what.message());
  return found;
}
inline bool says(const result<void>& outcome, const std::string& text) {
  BOOST_REQUIRE(!outcome);
  return says(outcome.error(), text);
}

}  // namespace tidemark::tests
