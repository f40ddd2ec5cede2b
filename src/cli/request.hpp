// SPDX-License-Identifier: Apache-2.0
//
// What the command line asks for, checked. Values.

#pragma once

#include <cstdint>
#include <string>

#include "cli/config.hpp"

namespace tidemark::cli {

enum class demo_role : std::uint8_t { both, source, destination };

struct demo_request {
  settings config;
  demo_role role = demo_role::both;
  bool json = false;       ///< JSON lines instead of the view for a person
  bool flip_byte = false;  ///< the destination flips one byte before the comparison, which must fail then
  std::string address;     ///< destination: where to listen; source: where to connect, never port 0
  std::string device;      ///< the test device's name on the platform bus
};

struct devices_request {
  bool json = false;
  bool all = false;  ///< also what is not VFIO's
};

struct doctor_request {
  bool json = false;
  bool all = false;  ///< also say how to change what is no fault
};

}  // namespace tidemark::cli
