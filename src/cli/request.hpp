// SPDX-License-Identifier: Apache-2.0
//
// What the command line asks for, checked. Values.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/config.hpp"
#include "cli/map_bench_script.hpp"

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

/// Who is on the other side, and how it is known.
struct migrate_request {
  settings config;
  migration_peer to;
  std::vector<std::string> ram;  ///< files that are the RAM blocks; none: a guest is made up
  std::string device;            ///< the test device's name on the platform bus; empty: none
  std::string report;            ///< where the page goes; empty: nowhere
  bool json = false;
};

struct receive_request {
  settings config;
  migration_peer at;
  std::vector<std::string> ram;  ///< files that become the RAM blocks; none: memory of this process
  std::string device;
  bool json = false;
};

struct map_bench_request {
  settings config;
  std::string device;                 ///< a PCI address or a path in sysfs
  std::vector<map_pattern> patterns;  ///< in the order they run
  bool stall = true;                  ///< also how long the loop stands still while memory is pinned
  bool planner = true;                ///< also what the engine costs on a kernel that does nothing
  bool table = true;
  bool json = false;
  std::string svg;  ///< where the picture goes; empty: nowhere
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
