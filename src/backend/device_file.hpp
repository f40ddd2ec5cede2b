// SPDX-License-Identifier: Apache-2.0
//
// Opens a device of a group and asks it what it is (R11).
//
// Threading: blocks for as long as the device's driver takes to open it, which may be a reset.

#pragma once

#include <tidemark/device.hpp>

#include <functional>
#include <string>

#include "backend/group.hpp"

namespace tidemark::backend {

/// A region or interrupt that the device's bus numbers and this device does not have, for which drivers answer EINVAL, is
/// one of size or count 0. Any other failure closes the device again; but for the features, migration and logging, which a
/// device whose driver fails to tell of them does not have: an errno that drivers without them do not give is a warning.
result<device> open_device(kernel::files& kernel, const group& owner, const std::string& name,
                           const std::function<void(const error&)>& warn);

}  // namespace tidemark::backend
