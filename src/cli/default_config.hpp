// SPDX-License-Identifier: Apache-2.0
//
// config/tidemark.toml as it was when the program was built. Constant; any thread.

#pragma once

#include <string_view>

namespace tidemark::cli {

std::string_view default_config();

}  // namespace tidemark::cli
