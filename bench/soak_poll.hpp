// SPDX-License-Identifier: Apache-2.0
//
// A device that dirties pages at a set rate, and a stream that is asked back to back or every 10 ms: what asking takes, and
// what rate the stream tells.
//
// Threading: the executor's; the device writes on a thread of its own.

#pragma once

#include "soak_guest.hpp"

namespace tidemark::bench {

/// A row of the report for each rate and way of polling, of `seconds` each.
ring::task<result<void>> poll(soak_guest& guest, double seconds);

}  // namespace tidemark::bench
