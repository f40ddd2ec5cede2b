// SPDX-License-Identifier: Apache-2.0
//
// KVM's VFIO pseudo-device (R8): a KVM VM is told which groups its devices come from, so that it knows whether DMA is
// coherent, and lets them keep a reference to it.
//
// Threading: the calls block for as long as KVM holds the VM's lock.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>

#include "backend/group.hpp"

namespace tidemark::backend {

/// `kvm_device`: what KVM_CREATE_DEVICE gave for KVM_DEV_TYPE_VFIO. EEXIST is no error: the group is there.
result<void> kvm_add(kernel::files& kernel, int kvm_device, const group& which);

/// KVM keeps the group's file until this succeeds or the VM ends, so a call that fails is made once more. ENOENT is no
/// error: the group is not there.
result<void> kvm_remove(kernel::files& kernel, int kvm_device, const group& which);

}  // namespace tidemark::backend
