// SPDX-License-Identifier: Apache-2.0
//
// `tidemark receive`. Threading: blocks until a guest has arrived; starts its own threads and ends them.

#pragma once

#include "cli/request.hpp"

namespace tidemark::cli {

/// The exit status.
int run_receive(const receive_request& request);

}  // namespace tidemark::cli
