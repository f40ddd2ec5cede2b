// SPDX-License-Identifier: Apache-2.0
//
// The groups and devices of an address space, and the containers they are in: who comes when, in which order, and what is
// taken back when something on the way fails.
//
//   device ── of ──► group ── in ──► container ── whose mappings are ──► the address space's (container_user)
//
// Invariants
//  1. A container is here while it has a group, a group while it has a device; but for the moment in which a device comes
//     or goes.
//  2. A group holds its claim of the host, and its block of RAM discarding unless its devices are safe, while it is here.
//  3. An attach that fails leaves groups and containers as they were.
//
// Threading: the address space's executor. One attach or detach at a time; more wait for their turn.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/host.hpp>

#include <list>
#include <map>
#include <string>
#include <vector>

#include "ring/mutex.hpp"
#include "ring/task.hpp"

namespace tidemark::dma {

/// Keeps the mappings of containers as its regions are.
class container_user {
 public:
  virtual ~container_user() = default;

  /// The container takes part from now on; on failure it may hold some of the mappings.
  virtual ring::task<result<void>> join(container& coming, const container_info& offered) = 0;

  /// A further group comes to a container that takes part, and may change what it offers. As async_connect; refused, too, as
  /// errc::region_misaligned, where a region does not suit its IOMMU: then the group has not come.
  virtual ring::task<result<container_info>> add_group(container& to, unsigned group) = 0;

  /// One leaves others in it. `left`: as async_disconnect. What the container offers from then on.
  virtual ring::task<result<container_info>> remove_group(container& from, unsigned group, result<void>& left) = 0;

  /// It takes part no more, and its last group leaves it. What its devices dirtied is not lost. As async_disconnect.
  virtual ring::task<result<void>> leave(container& going, unsigned last_group) = 0;

  /// A device has opened that nobody was told of yet.
  virtual ring::task<void> add_device(const container& in, const device& coming, bool may_log) = 0;
  /// As container::async_close_device. What it dirtied is not lost.
  virtual ring::task<result<void>> close_device(container& in, const device& going) = 0;
};

class attachments {
 public:
  attachments(any_io_executor executor, host& host, container_user& user)
      : executor_(std::move(executor)), host_(host), user_(user) {}
  ~attachments();

  ring::task<result<device>> attach(std::string which, attach_options options);
  ring::task<result<void>> detach(device which);

  std::vector<device> devices() const;
  std::vector<container_info> containers() const;

 private:
  struct member {
    explicit member(any_io_executor executor, host& host)
        : where(std::move(executor), host.kernel(), host.threads(), host.options()) {}
    container where;
    container_info info;
    std::size_t groups = 0;
  };
  using members = std::list<member>;

  struct group {
    host::group_claim claim;
    bool discard_safe;
    members::iterator in{};
    ram_discard::block block{};
    std::vector<device> devices{};
  };
  using groups = std::map<unsigned, group>;

  ring::task<ring::mutex::turn> take_turn();
  ring::task<result<groups::iterator>> join_group(unsigned number, attach_options options);
  ring::task<result<void>> connect(unsigned number, group& joining);
  ring::task<result<void>> connect_new(unsigned number, group& joining);
  result<members::iterator> make_member();
  result<void> check_open(const group& owner, const std::string& name, attach_options options) const;
  result<void> block_discarding(unsigned number, iommu_type type, group& joining);
  ring::task<result<void>> leave(groups::iterator leaving);

  any_io_executor executor_;
  host& host_;
  container_user& user_;
  ring::mutex turns_;
  members members_;
  groups groups_;
};

}  // namespace tidemark::dma
