// SPDX-License-Identifier: Apache-2.0
//
// The destination half of the demo. Threading: blocks its caller until the migration is over.

#pragma once

#include <tidemark/error.hpp>

#include <cstdint>

#include "cli/request.hpp"

namespace tidemark::cli {

class demo_view;

struct destination_outcome {
  std::uint64_t received_bytes = 0;
  std::uint64_t memory_peak_bytes = 0;
};

/// Listens at the request's address, takes one migration in.
result<destination_outcome> run_destination(const demo_request& request, demo_view& view);

}  // namespace tidemark::cli
