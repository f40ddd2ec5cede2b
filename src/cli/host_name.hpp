// SPDX-License-Identifier: Apache-2.0
//
// What this host is called. Any thread.

#pragma once

#include <unistd.h>

#include <array>
#include <string>

namespace tidemark::cli {

inline std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

}  // namespace tidemark::cli
