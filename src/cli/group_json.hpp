// SPDX-License-Identifier: Apache-2.0
//
// A device of an IOMMU group in JSON, with the same field names wherever the tool prints one. Pure function; any thread.

#pragma once

#include <boost/json/object.hpp>

#include "cli/iommu_groups.hpp"

namespace tidemark::cli {

inline boost::json::object json_of(const group_device& device) {
  return {{"name", device.name},
          {"bus", device.bus},
          {"driver", device.driver.empty() ? boost::json::value(nullptr) : boost::json::value(device.driver)},
          {"vfio", device.is_vfio},
          {"bridge", device.is_bridge},
          {"prevents", device.prevents()}};
}

}  // namespace tidemark::cli
