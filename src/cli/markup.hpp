// SPDX-License-Identifier: Apache-2.0
//
// Text within SVG and HTML, whoever it comes from. Pure functions; any thread.

#pragma once

#include <string>
#include <string_view>

namespace tidemark::cli {

/// Fit for the content of an element and for an attribute in double or single quotes. What XML cannot hold at all, control
/// characters and what is no UTF-8, becomes U+FFFD.
std::string escaped(std::string_view text);

}  // namespace tidemark::cli
