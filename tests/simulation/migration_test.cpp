// SPDX-License-Identifier: Apache-2.0
//
// Whole migrations, single-threaded, from a seed: the container, address space, stream, source and destination that everyone
// uses, on the model kernel, in virtual time, over a network of one to four channels
// in memory that may break anywhere, and is made anew or not.
//
//   simulation_test -- SEEDS [FIRST]     runs other seeds than the 1000 of the normal test run

#include <boost/test/unit_test.hpp>

#include <array>
#include <cstdlib>

#include "simulation/story.hpp"

namespace tidemark::simulation {

namespace {

std::uint64_t argument(int index, std::uint64_t otherwise) {
  const auto& suite = boost::unit_test::framework::master_test_suite();
  return suite.argc > index ? std::strtoull(suite.argv[index], nullptr, 10) : otherwise;
}

}  // namespace

// covers R17, R26, R30, R35
BOOST_AUTO_TEST_CASE(whole_migrations_from_seeds) {
  const auto seeds = argument(1, 1000);
  const auto first = argument(2, 1);
  std::array<unsigned, 3> ends{};
  unsigned recoveries = 0;
  for (auto seed = first; seed != first + seeds; ++seed) {
    const auto end = tell(seed);
    for (const auto& what : end.broken)
      BOOST_ERROR("seed " << seed << ": " << what
                          << "; reproduce: simulation_test --run_test=whole_migrations_from_seeds -- 1 " << seed);
    recoveries += end.recoveries;
    ++ends[static_cast<std::size_t>(end.what)];
  }
  BOOST_TEST_MESSAGE("migrated " << ends[0] << ", failed and then migrated " << ends[1] << ", undecided " << ends[2]
                                 << "; connections made anew " << recoveries);
  if (seeds < 1000) return;
  // The faults must be there: a simulation in which nothing ever breaks shows nothing.
  for (const auto count : ends) BOOST_TEST(count > 0u);
  BOOST_TEST(recoveries > 0u);
}

BOOST_AUTO_TEST_CASE(the_same_seed_gives_the_same_run) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) BOOST_TEST(tell(seed).trace == tell(seed).trace);
  BOOST_TEST(tell(1).trace != tell(2).trace);
}

}  // namespace tidemark::simulation
