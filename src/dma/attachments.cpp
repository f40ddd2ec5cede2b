// SPDX-License-Identifier: Apache-2.0

#include "dma/attachments.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>

#include <cerrno>
#include <coroutine>
#include <optional>
#include <system_error>
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

/// `undone`: what taking it back came to.
error taken_back(error failure, const result<void>& undone) {
  if (!undone) {
    failure.undone = "not undone: " + undone.error().message();
  } else if (failure.undone.empty()) {
    failure.undone = "nothing of it is left attached";
  }
  return failure;
}

/// Goes on in a later turn of the executor.
auto later(const any_io_executor& executor) {
  struct awaiter {
    const any_io_executor& executor;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) const {
      boost::asio::post(executor, [waiting] { waiting.resume(); });
    }
    void await_resume() const noexcept {}
  };
  return awaiter{executor};
}

}  // namespace

attachments::~attachments() {
  // Devices first: an open one keeps its group in the container.
  for (auto& [number, owner] : groups_)
    for (auto& open : owner.devices) open.close();
  members_.clear();  // and what they pin, before the groups' claims and blocks go
}

// Who had to wait goes on in a turn of its own: behind the completion of the one before, and not inside its stack.
task<ring::mutex::turn> attachments::take_turn() {
  const bool waits = turns_.is_taken();
  auto turn = co_await turns_.lock();
  if (waits) co_await later(executor_);
  co_return turn;
}

std::vector<device> attachments::devices() const {
  std::vector<device> list;
  for (const auto& [number, owner] : groups_) list.insert(list.end(), owner.devices.begin(), owner.devices.end());
  return list;
}

std::vector<container_info> attachments::containers() const {
  std::vector<container_info> list;
  for (const auto& one : members_)
    if (one.groups != 0) list.push_back(one.info);
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
  const auto turn = co_await take_turn();
  const auto place = backend::find_device(host_.kernel(), which);
  if (!place) co_return place.error();
  auto found = groups_.find(place->group);
  if (found == groups_.end()) {
    auto joined = co_await join_group(place->group, options);
    if (!joined) co_return joined.error();
    found = *joined;
  } else if (auto fits = check_open(found->second, place->name, options); !fits) {
    co_return fits.error();
  }
  auto opened = co_await found->second.in->where.async_open_device(place->group, place->name, resume_on{executor_});
  if (opened) {
    found->second.devices.push_back(*opened);
    co_await user_.add_device(found->second.in->where, *opened, options.use_dma_log);
    co_return opened;
  }
  result<void> undone;
  if (found->second.devices.empty()) undone = co_await leave(found);
  co_return taken_back(opened.error(), undone);
}

// Everything a group needs before its first device opens. What is made on the way are values, which go with the group; the
// container is left again.
task<result<attachments::groups::iterator>> attachments::join_group(unsigned number, attach_options options) {
  auto claim = host_.claim_group(number);
  if (!claim) co_return claim.error();
  group joining{.claim = std::move(*claim), .discard_safe = options.discard_safe};
  if (auto connected = co_await connect(number, joining); !connected)
    co_return taken_back(connected.error(), result<void>{});
  const auto joined = groups_.emplace(number, std::move(joining)).first;
  result<void> replayed;
  if (joined->second.in->groups == 1)  // it is new, and empty
    replayed = co_await user_.join(joined->second.in->where, joined->second.in->info);
  if (replayed) co_return joined;
  const auto undone = co_await leave(joined);
  co_return taken_back(replayed.error(), undone);
}

// Every container that is there first: groups that share one share its mappings, and the kernel's work for them. It has
// mappings already, which are pinned for the group that comes: discarding is blocked before.
task<result<void>> attachments::connect(unsigned number, group& joining) {
  for (auto in = members_.begin(); in != members_.end(); ++in) {
    if (auto blocked = block_discarding(number, in->info.type, joining); !blocked) co_return blocked;
    auto info = co_await user_.add_group(in->where, number);
    if (info) {
      in->info = std::move(*info);
      ++in->groups;
      joining.in = in;
      co_return result<void>{};
    }
    joining.block = {};
    const auto& why = info.error();
    const bool does_not_fit =
        why.what == operation::connect_container && why.code.category() == boost::system::system_category();
    if (!does_not_fit) co_return why;
  }
  co_return co_await connect_new(number, joining);
}

task<result<void>> attachments::connect_new(unsigned number, group& joining) {
  const auto made = make_member();
  if (!made) co_return made.error();
  const auto in = *made;
  auto info = co_await in->where.async_connect(number, resume_on{executor_});
  result<void> outcome;
  if (info) {
    outcome = block_discarding(number, info->type, joining);
    if (!outcome) (void)co_await in->where.async_disconnect(number, resume_on{executor_});
  } else {
    outcome = info.error();
  }
  if (!outcome) {
    members_.erase(in);
    co_return outcome;
  }
  in->info = std::move(*info);
  in->groups = 1;
  joining.in = in;
  co_return outcome;
}

result<attachments::members::iterator> attachments::make_member() {
  try {
    return members_.emplace(members_.end(), executor_, host_);
  } catch (const std::system_error& refusal) {
    return kernel_error(operation::attach, refusal.code().value(), {},
                        "no thread for the container's lane: raise the limit on processes (ulimit -u, pids.max)");
  }
}

result<void> attachments::block_discarding(unsigned number, iommu_type type, group& joining) {
  const auto kind = discarding_blocked_by(type);
  if (!kind || joining.discard_safe) return {};
  auto block = host_.discards().try_block(
      *kind, {"group " + std::to_string(number), "a " + std::string(name_of(type)) + " container pins the guest's memory"});
  if (!block) return block.error();
  joining.block = std::move(*block);
  return {};
}

task<result<void>> attachments::leave(groups::iterator leaving) {
  const auto in = leaving->second.in;
  result<void> left;
  if (--in->groups != 0) {
    auto info = co_await user_.remove_group(in->where, leaving->first, left);
    if (info) in->info = std::move(*info);
  } else {
    left = co_await user_.leave(in->where, leaving->first);
  }
  const bool was_last = in->groups == 0;
  if (was_last) members_.erase(in);
  groups_.erase(leaving);
  co_return left;
}

task<result<void>> attachments::detach(device which) {
  const auto turn = co_await take_turn();
  const auto owner = groups_.find(which.group());
  if (owner == groups_.end()) co_return result<void>{};
  auto& open = owner->second.devices;
  const auto at = std::find(open.begin(), open.end(), which);
  if (at == open.end()) co_return result<void>{};
  auto closed = co_await user_.close_device(owner->second.in->where, which);
  if (!closed) co_return closed;  // the lane took no more: it is as it was
  open.erase(at);
  if (!open.empty()) co_return result<void>{};
  const auto left = co_await leave(owner);
  if (!left && host_.options().warn) host_.options().warn(left.error());
  co_return result<void>{};
}

}  // namespace tidemark::dma
