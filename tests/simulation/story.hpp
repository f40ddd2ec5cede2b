// SPDX-License-Identifier: Apache-2.0
//
// One story from one seed: a machine, a migration of it over a network that may break, another attempt where the first
// failed, and what was found wrong on the way. Parts may be replaced by broken ones, to see that the story notices.
//
// Threading: one thread.

#pragma once

#include <tidemark/dirty_stream.hpp>
#include <tidemark/kernel.hpp>
#include <tidemark/migration.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ring/byte_stream.hpp"
#include "simulation/world.hpp"

namespace tidemark::simulation {

/// What is put in front of the true parts; empty: nothing.
struct replacements {
  std::function<std::unique_ptr<kernel::files>(kernel::files&)> kernel;
  std::function<std::unique_ptr<cpu_dirty_source>(cpu_dirty_source&)> cpu_source;
  std::function<std::unique_ptr<guest>(guest&, any_io_executor)> source_guest;
  std::function<std::unique_ptr<ring::byte_stream>(std::unique_ptr<ring::byte_stream>)> destination_stream;
};

struct ending {
  std::vector<std::string> broken;  ///< promises that were not kept; empty: all is well
  enum class kind { good, failed_then_good, undecided } what = kind::good;
  unsigned recoveries = 0;  ///< connections that were made anew in migrations that ended well
  std::uint64_t trace = 0;  ///< equal for equal runs
};

/// A story that needs more turns than `turns_max` hangs, which is a broken promise too; most need some ten thousand.
ending tell(std::uint64_t seed, const replacements& with = {}, std::uint64_t turns_max = 20'000'000);

}  // namespace tidemark::simulation
