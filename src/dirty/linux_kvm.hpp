// SPDX-License-Identifier: Apache-2.0
//
// KVM_GET_DIRTY_LOG, outside of namespace tidemark: the macro says `struct kvm_dirty_log`, and in there that is our class,
// whose size would be in the request's number.

#pragma once

#include <linux/kvm.h>

namespace linux_kvm {

using dirty_log = ::kvm_dirty_log;
inline constexpr unsigned long get_dirty_log = KVM_GET_DIRTY_LOG;

}  // namespace linux_kvm
