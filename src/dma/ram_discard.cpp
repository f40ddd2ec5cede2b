// SPDX-License-Identifier: Apache-2.0

#include <tidemark/ram_discard.hpp>

#include <cerrno>

namespace tidemark {

namespace {

error refusal(std::string text) { return kernel_error(operation::block_ram_discard, EBUSY, {}, std::move(text)); }

template <class Entries>
std::vector<ram_discard::holder> holders_of(const Entries& entries) {
  std::vector<ram_discard::holder> list;
  for (const auto& one : entries) list.push_back(one.by);
  return list;
}

}  // namespace

result<ram_discard::block> ram_discard::try_block(blocked kind, holder by) {
  std::lock_guard lock(mutex_);
  for (const auto& there : requirements_)
    if (conflict(kind, there.kind))
      return refusal(by.who + " cannot block RAM discarding: " + there.by.who + " requires it (" + there.by.why + ")");
  return block(*this, blocks_.insert(blocks_.end(), {kind, std::move(by)}));
}

result<ram_discard::requirement> ram_discard::try_require(required kind, holder by) {
  std::lock_guard lock(mutex_);
  for (const auto& there : blocks_)
    if (conflict(there.kind, kind))
      return refusal(by.who + " cannot discard RAM: " + there.by.who + " blocks it (" + there.by.why + ")");
  return requirement(*this, requirements_.insert(requirements_.end(), {kind, std::move(by)}));
}

bool ram_discard::allows(required kind) const {
  std::lock_guard lock(mutex_);
  for (const auto& there : blocks_)
    if (conflict(there.kind, kind)) return false;
  return true;
}

std::vector<ram_discard::holder> ram_discard::blockers() const {
  std::lock_guard lock(mutex_);
  return holders_of(blocks_);
}

std::vector<ram_discard::holder> ram_discard::requirers() const {
  std::lock_guard lock(mutex_);
  return holders_of(requirements_);
}

void ram_discard::release(entries<blocked>::iterator place) {
  std::lock_guard lock(mutex_);
  blocks_.erase(place);
}

void ram_discard::release(entries<required>::iterator place) {
  std::lock_guard lock(mutex_);
  requirements_.erase(place);
}

}  // namespace tidemark
