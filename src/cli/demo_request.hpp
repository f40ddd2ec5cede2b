// SPDX-License-Identifier: Apache-2.0
//
// Makes a request of `tidemark demo` of its words. Pure; any thread.

#pragma once

#include <tidemark/error.hpp>

#include <optional>
#include <string>

#include "cli/request.hpp"
#include "kernel/test_device.h"

namespace tidemark::cli {

/// As they stand on the command line.
struct demo_words {
  std::string role = "both";
  std::string device = TIDEMARK_TEST_DEVICE_NAME ".0";
  std::optional<std::string> inject;
};

result<demo_request> demo_of(const demo_words& given, bool json, settings chosen);

/// A doorbell is rung by writing to a device's file; written to any device but a test device, that would land in its
/// registers.
result<void> check_test_device(const std::string& name);

}  // namespace tidemark::cli
