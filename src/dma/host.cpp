// SPDX-License-Identifier: Apache-2.0

#include <tidemark/host.hpp>

#include <string>

namespace tidemark {

result<host::group_claim> host::claim_group(unsigned number) {
  std::lock_guard lock(mutex_);
  if (!claimed_.insert(number).second)
    return make_error(operation::attach, errc::group_in_other_space, {},
                      "group " + std::to_string(number) + " used in multiple address spaces");
  return group_claim(*this, number);
}

void host::release_group(unsigned number) noexcept {
  std::lock_guard lock(mutex_);
  claimed_.erase(number);
}

}  // namespace tidemark
