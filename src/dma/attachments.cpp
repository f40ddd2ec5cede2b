// SPDX-License-Identifier: Apache-2.0

#include "dma/attachments.hpp"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <optional>
#include <utility>

#include "backend/sysfs.hpp"
#include "ring/await.hpp"

namespace tidemark::dma {

using ring::resume_on;
using ring::task;

namespace {

/// What a container's driver pins, and so forbids to discard. A noiommu container pins nothing.
std::optional<ram_discard::blocked> discarding_blocked_by(iommu_type type) {
  switch (type) {
    case iommu_type::type1v2:
    case iommu_type::type1:
      return ram_discard::blocked::uncoordinated;
    case iommu_type::spapr_v2:
    case iommu_type::spapr_v1:
      return ram_discard::blocked::all;
    case iommu_type::noiommu:
      break;
  }
  return std::nullopt;
}

error taken_back(error failure) {
  failure.undone = "nothing of it is left attached";
  return failure;
}

}  // namespace

attachments::~attachments() {
  // Devices first: an open one keeps its group in the container.
  for (auto& [number, owner] : groups_)
    for (auto& open : owner.devices) open.close();
}

std::vector<device> attachments::devices() const {
  std::vector<device> list;
  for (const auto& [number, owner] : groups_) list.insert(list.end(), owner.devices.begin(), owner.devices.end());
  return list;
}

std::vector<container_info> attachments::containers() const {
  std::vector<container_info> list;
  for (const auto& one : members_) list.push_back(one.info);
  return list;
}

result<void> attachments::check_open(const group& owner, const std::string& name, attach_options options) const {
  for (const auto& open : owner.devices)
    if (open.name() == name) return kernel_error(operation::attach, EBUSY, {}, name + " is already attached");
  if (owner.discard_safe == options.discard_safe) return {};
  return make_error(operation::attach, errc::discard_disagrees, {},
                    name +
                        (options.discard_safe ? " says that it is safe with RAM discarding, "
                                              : " does not say that it is safe with RAM discarding, ") +
                        owner.devices.front().name() + " of its group " + (options.discard_safe ? "does not" : "does"));
}

task<result<device>> attachments::attach(std::string which, attach_options options) {
  const auto turn = co_await turns_.lock();
  const auto place = backend::find_device(host_.kernel(), which);
  if (!place) co_return place.error();
  auto found = groups_.find(place->group);
  if (found == groups_.end()) {
    auto joined = co_await join_group(place->group, options);
    if (!joined) co_return taken_back(joined.error());
    found = *joined;
  } else if (auto fits = check_open(found->second, place->name, options); !fits) {
    co_return fits.error();
  }
  auto opened = co_await found->second.in->where.async_open_device(place->group, place->name, resume_on{executor_});
  if (opened) {
    found->second.devices.push_back(*opened);
    co_return opened;
  }
  if (found->second.devices.empty()) co_await leave(found);
  co_return taken_back(opened.error());
}

// Everything a group needs before its first device opens, each step taken back by what the step before has made: the claim
// and the block are values, the container is left again.
task<result<attachments::groups::iterator>> attachments::join_group(unsigned number, attach_options options) {
  auto claim = host_.claim_group(number);
  if (!claim) co_return claim.error();
  auto in = co_await connect(number);
  if (!in) co_return in.error();
  const auto joined =
      groups_.emplace(number, group{.claim = std::move(*claim), .in = *in, .discard_safe = options.discard_safe}).first;
  auto outcome = block_discarding(number, joined->second);
  if (outcome) outcome = co_await replay(joined->second);
  if (outcome) co_return joined;
  co_await leave(joined);
  co_return outcome.error();
}

// Every container that is there first: groups that share one share its mappings, and the kernel's work for them.
task<result<attachments::members::iterator>> attachments::connect(unsigned number) {
  for (auto in = members_.begin(); in != members_.end(); ++in) {
    auto info = co_await in->where.async_connect(number, resume_on{executor_});
    if (info) {
      in->info = std::move(*info);
      ++in->groups;
      co_return in;
    }
    if (info.error().what != operation::connect_container) co_return info.error();
  }
  co_return co_await connect_new(number);
}

task<result<attachments::members::iterator>> attachments::connect_new(unsigned number) {
  const auto in = members_.emplace(members_.end(), executor_, host_);
  auto info = co_await in->where.async_connect(number, resume_on{executor_});
  if (!info) {
    members_.erase(in);
    co_return info.error();
  }
  in->info = std::move(*info);
  in->groups = 1;
  co_return in;
}

result<void> attachments::block_discarding(unsigned number, group& joined) {
  const auto kind = discarding_blocked_by(joined.in->info.type);
  if (!kind || joined.discard_safe) return {};
  auto block = host_.discards().try_block(
      *kind, {"group " + std::to_string(number),
              "a " + std::string(name_of(joined.in->info.type)) + " container pins the guest's memory"});
  if (!block) return block.error();
  joined.block = std::move(*block);
  return {};
}

/// Only a container that is new has nothing mapped yet.
task<result<void>> attachments::replay(group& joined) {
  if (joined.in->groups > 1) co_return result<void>{};
  co_return co_await user_.join(joined.in->where);
}

task<void> attachments::leave(groups::iterator leaving) {
  const auto in = leaving->second.in;
  if (--in->groups != 0) {
    (void)co_await in->where.async_disconnect(leaving->first, resume_on{executor_});
  } else {
    co_await user_.leave(in->where, leaving->first);
  }
  groups_.erase(leaving);
  if (in->groups == 0) members_.erase(in);
}

task<result<void>> attachments::detach(device which) {
  const auto turn = co_await turns_.lock();
  const auto owner = groups_.find(which.group());
  if (owner == groups_.end()) co_return result<void>{};
  auto& open = owner->second.devices;
  const auto at = std::find(open.begin(), open.end(), which);
  if (at == open.end()) co_return result<void>{};
  auto closed = co_await owner->second.in->where.async_close_device(which, resume_on{executor_});
  if (!closed) co_return closed;  // the lane took no more: it is as it was
  open.erase(at);
  if (open.empty()) co_await leave(owner);
  co_return result<void>{};
}

}  // namespace tidemark::dma
