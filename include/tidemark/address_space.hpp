// SPDX-License-Identifier: Apache-2.0
//
// An address space: the RAM blocks of a guest, the regions that show parts of them to devices at IOVAs, and the devices.
//
//   tidemark::host host(tidemark::kernel::host_kernel());
//   tidemark::address_space space(executor, host);
//   auto nic = co_await space.async_attach("0000:01:00.0", use_awaitable);   // result<device>
//   for (const auto& region : nic->info().regions) ...
//   co_await space.async_detach(*nic, use_awaitable);
//
// Devices bring their IOMMU group, and a group its container: one that is there, if it takes the group, else a new one.
// Region events become map and unmap requests of every container; what devices dirty comes back per RAM block, since a block
// can be seen at several IOVAs, or for a while at none.
//
// What cannot be mapped is not always an error: registers, protected memory and what lies beyond the address width are
// there and skipped, edges that are no whole IOMMU pages are trimmed, and a device's memory is mapped where that works.
// region_states() says what became of each. RAM that its owner gives back while the guest runs (virtio-mem) is a region with
// a granule: it is mapped by async_populate and unmapped by async_discard, granule by granule.
//
// Threading: everything is called, and completes, on the executor the address space was made with (one thread or strand).
// Nothing blocks. Order: events on overlapping ranges take effect in the order they were given; disjoint ones may overtake
// each other. Attaches and detaches take turns, in the order they were given. Cancellation: what was given is carried out;
// there is none to take it back but its opposite. Life: the host, and the memory of the RAM blocks, outlive the address
// space, which outlives its operations. The destructor detaches all that is left, and blocks for as long as that takes.
//
// Errors: an event fails whole. A region that could not be mapped in one container is unmapped again from the others, a
// device that could not be attached leaves nothing behind, and error::undone says so, or what could not be undone.

#pragma once

#include <tidemark/container.hpp>
#include <tidemark/device.hpp>
#include <tidemark/dirty_source.hpp>
#include <tidemark/error.hpp>
#include <tidemark/host.hpp>
#include <tidemark/operation.hpp>
#include <tidemark/page_run.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark {

/// Memory of the guest: what is migrated. `host` and `size` are multiples of page_bytes.
struct ram_block {
  std::string name;           ///< the same at source and destination
  std::byte* host = nullptr;  ///< until async_move_blocks
  std::uint64_t size = 0;     ///< bytes
  int memory_file = -1;       ///< of which it is a shared mapping from offset 0; -1: of none. It stays open. Pages that are
                              ///< holes of it were never written, and a migration does not look at them

  std::uint64_t pages() const noexcept { return size / page_bytes; }
};

/// Where this process sees a RAM block from now on: the same pages.
struct moved_block {
  block_index block = 0;
  std::byte* host = nullptr;  ///< of its first byte; a multiple of page_bytes, and lies within IOMMU pages as it did before
};

/// What is behind a region.
enum class region_kind : std::uint8_t {
  ram,               ///< a part of a RAM block: mapped, tracked, migrated
  device_memory,     ///< a device's BAR that other devices may reach: mapped where that works, neither tracked nor migrated
  io,                ///< registers that trap: not mapped
  protected_memory,  ///< memory that only its owner may map, as an enclave's: not mapped
};

/// A range of IOVAs and what devices see there. Any bytes: what is mapped are the whole IOMMU pages among them.
struct region {
  iova_range at;
  block_index block = 0;     ///< of ram
  std::uint64_t offset = 0;  ///< of ram: bytes into the block
  bool writable = true;      ///< devices may always read
  region_kind kind = region_kind::ram;
  std::byte* host = nullptr;  ///< of device_memory: where this process sees it; stays mapped until the region is removed
  /// Of ram that is discarded while the guest runs: bytes, a power of two. Nothing is mapped when the region is added;
  /// async_populate and async_discard name whole granules, of which each is a mapping of its own. `at` is whole granules,
  /// and granule and memory are whole pages: of page_bytes, and of the IOMMU of every container. 0: none.
  std::uint64_t granule = 0;
};

/// What became of a region in one container.
struct region_placement {
  std::uint64_t page_size = 0;  ///< of its IOMMU when the region came, bytes
  iova_range mapped;  ///< the whole pages of the region; of one with a granule what can be populated. Size 0: nothing is
  iova_range trimmed_front;  ///< what is left out before `mapped`; size 0: nothing
  iova_range trimmed_back;   ///< and behind it
  std::string reason;        ///< why nothing is mapped; empty when something is
};

/// What became of a region.
struct region_state {
  region asked;                       ///< as it was added
  std::string skipped;                ///< why no container maps it; empty when it is not skipped
  std::vector<region_placement> in;   ///< a container each, oldest first; none when it is skipped
  std::vector<iova_range> populated;  ///< of a region with a granule: ascending, neighbours joined
};

/// Who says that pages are dirty.
enum class dirty_origin : std::uint8_t {
  device_log,  ///< a device's log of its own DMA (VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)
  container,   ///< the container's bitmap (VFIO_IOMMU_DIRTY_PAGES, an unmap's bitmap)
  untracked,   ///< nobody: a device could have written there, and nothing tells whether it did
  lost,        ///< somebody whose answer an error lost
};
inline constexpr std::size_t dirty_origins = 4;

std::string_view name_of(dirty_origin origin) noexcept;

/// Receives what devices dirtied.
class dirty_sink {
 public:
  virtual ~dirty_sink() = default;
  /// Where pages are told: from any thread, several at a time. What is told of pages that are discarded is to be ignored.
  virtual page_sink& from(dirty_origin origin) noexcept = 0;
  /// The guest gave these pages back: there is nothing in them to send, whatever is still told of them, until they are
  /// populated again. Told when tracking has started, of all such pages, and then of each change. A page that another
  /// region shows is not discarded, nor is one that no region shows any more. On the address space's executor, as the next.
  virtual void discarded(page_run pages) = 0;
  /// They are back, and dirty.
  virtual void populated(page_run pages) = 0;
};

struct attach_options {
  /// The device never pins memory that the guest may give away (a mediated device that pins only what the guest's driver
  /// uses), so RAM discarding stays allowed. Your promise: of a function bound to vfio-pci it is never true. All devices of
  /// a group say the same.
  bool discard_safe = false;
  /// Where every device of a container logs its own DMA (device_info::logs_dma), these logs tell what is dirty, and not the
  /// container, which for devices behind an IOMMU knows only that all is. False: never by this device's log.
  bool use_dma_log = true;
};

class address_space {
 public:
  address_space(any_io_executor executor, host& host);
  address_space(const address_space&) = delete;
  address_space& operator=(const address_space&) = delete;
  ~address_space();

  any_io_executor get_executor() const noexcept { return executor_; }
  /// What it was made with.
  host& around() const noexcept { return host_; }

  /// Blocks are given before regions that show them, and stay.
  result<block_index> add_block(ram_block block);
  const std::vector<ram_block>& blocks() const noexcept;

  /// The regions there are now, as they were added, ascending by IOVA.
  std::vector<region> regions() const;

  /// The same with what is mapped of each, what is not, and why.
  std::vector<region_state> region_states() const;

  /// Attaches the device at a sysfs path ("/sys/bus/mdev/devices/<uuid>") or PCI address ("0000:01:00.0"): finds its group,
  /// puts the group into a container, maps every region there is, opens the device and asks it what it is. Meanwhile RAM
  /// discarding becomes blocked, and KVM is told of the group, where host has them. On failure all is as it was.
  ///
  /// Errors, beside what the kernel answers (error::what is the step): EBUSY, attached already, or the group is in use by
  /// another process, or RAM discarding is required by someone; errc::group_not_viable, group_in_other_space,
  /// no_iommu_model, no_iommu (regions that a noiommu group cannot have), discard_disagrees, region_misaligned (a granule
  /// that is no multiple of the IOMMU page size); a link in sysfs that is missing (ENOENT), too long (ENAMETOOLONG), or no
  /// group number (EINVAL).
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<device>)) Token>
  auto async_attach(std::string which, attach_options options, Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_attach, std::move(which), options);
  }
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<device>)) Token>
  auto async_attach(std::string which, Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_attach, std::move(which), attach_options{});
  }

  /// Undoes attach in reverse order: closes the device, then, when it was its group's last, what the group had. What it
  /// dirtied while tracking is not lost. What was mapped of it (mmap) is unmapped before. Harmless when the device is not
  /// attached here; what the kernel refuses on the way is a warning (container_options::warn), and the detach goes on.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_detach(device which, Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_detach, std::move(which));
  }

  /// The devices attached now, by group.
  std::vector<device> devices() const;

  /// What the containers offer that the devices are in, oldest first.
  std::vector<container_info> containers() const;

  /// A region came. Skipped, which is a success: io and protected_memory, what begins at 2^63 or beyond (where a 64-bit BAR
  /// is for a moment while the guest sizes it), what holds no whole IOMMU page, and what lies otherwise within its pages
  /// than the memory behind it. Device memory that cannot be mapped is a warning (container_options::warn), and its reason
  /// stays to be read. While a region with a granule is there, coordinated discarding is required of host::discards().
  ///
  /// Errors: errc::region_overlaps; region_unknown (the block or the part of it); region_misaligned (no size, a range that
  /// wraps, a granule that does not suit); EBUSY, RAM discarding is blocked by someone, as sPAPR containers do; or what a
  /// map can fail with.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_add(const region& added, Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_add, added);
  }

  /// The region at exactly this range went. What devices dirtied in it while tracking is not lost. errc::region_unknown, or
  /// what an unmap fails with; the region then stays.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_remove(iova_range range, Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_remove, range);
  }

  /// Maps the granules of `range` that are not mapped yet, in every container: all of them or none. The memory is there
  /// before. `range`: whole granules of one region. errc::region_unknown, region_misaligned, or what a map can fail with.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_populate(iova_range range, Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_populate, range);
  }

  /// Unmaps the granules of `range` that are mapped: all of them, or on failure none. The memory may go when this has
  /// completed, not before. Errors as of async_populate and an unmap.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_discard(iova_range range, Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_discard, range);
  }

  /// Moves RAM blocks in this process while devices go on reaching them, as for a live update (VFIO_UPDATE_VADDR). When no
  /// container uses host addresses any more, `move` is called, once, on the executor: it moves the memory (mremap(2)), or
  /// does nothing where it can be seen at both addresses already (a memfd, mapped once more). Then every container is told.
  /// Events given meanwhile wait. That nobody else uses the old addresses, as a migration does, is your part.
  ///
  /// Refused, or failed before `move` has succeeded: no block has moved, error::undone says so. What fails behind it
  /// (operation::renew_addresses) leaves the blocks where they are now, and some mappings without an address: DMA goes on
  /// everywhere, but no group can come. Give the same once more, with a `move` that does nothing, to finish it.
  ///
  /// Errors: errc::region_unknown, a block that is not there; region_misaligned; EINVAL, a block that is given twice;
  /// release_not_supported, a container that cannot (container_info::can_release_addresses); what `move` or the kernel says.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_move_blocks(std::vector<moved_block> blocks, std::function<result<void>()> move, Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_move_blocks, std::move(blocks), std::move(move));
  }

  /// From now on what devices dirty is kept for `sink`: by the logs of a container's devices where every one of them has one
  /// (attach_options::use_dma_log), else by the container. A container that cannot track has everything that is mapped in it
  /// count as dirty. What the devices refuse is a warning, and the container tracks; what the container refuses is an error,
  /// and nothing tracks then. A device that comes later, and has no log, has its container track from then on.
  ///
  /// A region that comes later is logged, too: if the ranges that the devices log do not hold it, they are given new ones,
  /// while the container tracks; where that knows only that all is dirty, or cannot track, the region is dirty throughout.
  ///
  /// One at a time: EBUSY while somebody tracks. A region that is not writable is not asked about.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_start_tracking(dirty_sink& sink, Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_tracking, &sink);
  }

  /// Hands the sink what devices dirtied since the last call, in the regions as the events given before leave them. Granules
  /// that are not populated are not asked about. A query that fails marks all that it asked about: nothing is lost. What a
  /// container is asked in one ioctl is cut between its mappings to what its kernel allows (container_info::
  /// dirty_bitmap_bytes_max); a mapping that is larger than that is dirty throughout. After a device's log has failed all
  /// that its container maps is dirty, once, and the devices log anew.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_sync_dirty(Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_sync);
  }

  /// The sink is not called after this completes.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_stop_tracking(Token&& token) {
    return detail::initiate<Token>(this, token, &address_space::start_stop_tracking);
  }

 private:
  void start_attach(completion<device> done, std::string which, attach_options options);
  void start_detach(completion<void> done, device which);
  void start_add(completion<void> done, region added);
  void start_remove(completion<void> done, iova_range range);
  void start_populate(completion<void> done, iova_range range);
  void start_discard(completion<void> done, iova_range range);
  void start_move_blocks(completion<void> done, std::vector<moved_block> blocks, std::function<result<void>()> move);
  void start_tracking(completion<void> done, dirty_sink* sink);
  void start_sync(completion<void> done);
  void start_stop_tracking(completion<void> done);

  class state;
  any_io_executor executor_;
  host& host_;
  std::unique_ptr<state> state_;
};

}  // namespace tidemark
