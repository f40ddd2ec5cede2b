// SPDX-License-Identifier: Apache-2.0
//
// A VFIO container: the IOVA space that the devices of its groups share, and the mappings in it.
//
// Every operation is an Asio operation: it takes a completion token, completes with one `result<T>` on the handler's
// executor (the container's, where the handler has none), and never calls the handler inside the initiating function. The
// ioctls are made by the container's lane beside the loop, planned in batches; small ones may be made on the executor
// (container_options::in_place_bytes_max). So nothing here blocks for longer than that.
//
// Order: requests on overlapping ranges take effect in the order of the calls. Between the pieces of a map that is larger
// than container_options::piece_bytes requests on other ranges overtake it. All but maps, unmaps and dirty queries wait for
// everything before them, and everything behind waits for them.
//
// Threading: a container may be called from any thread. The handler's cancellation slot is to be used from the handler's
// executor. Cancellation (any type): a request that the lane has not taken up yet is removed and completes with
// operation_aborted; one that it has taken up cannot be stopped by anyone: it goes on to its end and completes with what is
// then true. Life: the executor's context, the kernel and the workers outlive the container. The destructor refuses what is
// queued (operation_aborted), waits for the ioctl under way, then closes groups and container, which unmaps all that is
// left: it may take as long as an unmap. A device that is still open keeps its group in the container, and the mappings with
// it, until it is closed: devices go first. Completions not yet fetched then stay in the executor's context; an opened
// device among them needs the kernel for as long.
//
// Kernel interface: <linux/vfio.h>: type1 (VFIO_TYPE1v2_IOMMU, else VFIO_TYPE1_IOMMU), sPAPR TCE (version 2, else 1),
// noiommu; KVM_SET_DEVICE_ATTR of <linux/kvm.h>.

#pragma once

#include <tidemark/device.hpp>
#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>
#include <tidemark/operation.hpp>
#include <tidemark/threads.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tidemark {

namespace dma {
struct lane_place;
class lane_calls;
}  // namespace dma

/// The driver behind a container, richest first: what VFIO_SET_IOMMU accepted.
enum class iommu_type : std::uint8_t {
  type1v2,   ///< VFIO_TYPE1v2_IOMMU
  type1,     ///< VFIO_TYPE1_IOMMU: cannot track what devices dirty, and unmaps whole mappings only
  spapr_v2,  ///< VFIO_SPAPR_TCE_v2_IOMMU: memory is registered, DMA windows come and go
  spapr_v1,  ///< VFIO_SPAPR_TCE_IOMMU: one window
  noiommu,   ///< VFIO_NOIOMMU_IOMMU: devices see physical memory; nothing can be mapped
};

std::string_view name_of(iommu_type type) noexcept;

/// What a container offers with the groups in it: VFIO_IOMMU_GET_INFO, VFIO_IOMMU_SPAPR_TCE_GET_INFO.
struct container_info {
  iommu_type type = iommu_type::type1v2;
  std::uint64_t page_sizes = 0;  ///< a bit for each IOMMU page size; the lowest is the granule of every range
  /// Mappings the kernel still allowed when asked (VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, 5.10); where it does not tell: all that
  /// it allows by default (vfio_iommu_type1.dma_entry_limit), those that are held included.
  std::uint64_t mappings_available = 65535;
  bool tells_mappings_available = false;
  std::vector<iova_range> windows;  ///< usable IOVAs, ascending; none reported: all are (with sPAPR v2: as it makes windows)
  bool can_unmap_all = false;       ///< VFIO_UNMAP_ALL
  bool can_cut_maps = true;         ///< a large map may be made piece by piece; sPAPR makes windows and registers by maps
  bool can_unmap_gaps = true;       ///< an unmap may span where nothing is mapped; sPAPR's may not
  bool can_release_addresses = false;  ///< VFIO_UPDATE_VADDR: memory may move in this process; not with emulated IOMMUs
  bool can_track_dirty = false;        ///< VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION with the host's page size
  std::uint64_t dirty_bitmap_bytes_max = 0;  ///< the largest bitmap of one query or unmap

  std::uint64_t page_size() const noexcept { return page_sizes & (~page_sizes + 1); }
};

/// Memory of this process to be seen by devices at an IOVA. Address, IOVA and size are multiples of
/// container_info::page_size().
struct mapping {
  iova_range at;
  void* host = nullptr;  ///< stays mapped in this process until the unmap has completed, or async_release_addresses has
  bool writable = true;  ///< devices may always read
  /// Bytes, a power of two: unmaps to come name whole aligned units of so many bytes (or all of this mapping, if it is
  /// larger). So neighbours of one unit that are asked for together may become one mapping of the kernel, by one ioctl. 0:
  /// they name just what this names.
  std::uint64_t unit = 0;
  /// The memory is there and stays (mlock(2), huge pages of a pool): it need not be asked whether it is. See
  /// container_options::in_place_bytes_max.
  bool resident = false;
};

/// A step of container::async_apply: something to map, or a range to unmap.
using change = std::variant<mapping, iova_range>;

/// Memory that this process sees elsewhere now: the same pages, after mremap(2) or in a memfd that was mapped once more.
struct moved_memory {
  iova_range at;         ///< where devices see it: mappings, or a part of them, without a gap
  void* host = nullptr;  ///< where this process sees the first byte of it
};

/// What a container is told of the program around it.
struct container_options {
  /// KVM's VFIO device (KVM_CREATE_DEVICE with KVM_DEV_TYPE_VFIO), which is told of every group that comes and goes. Stays
  /// the caller's, and outlives the container. -1: there is no KVM VM.
  int kvm_device = -1;
  /// Told of what failed without making the operation fail: KVM that did not take a group, a group that did not leave.
  /// Called where the completions are, on the container's executor; what a destructor met is told after it. May be empty.
  std::function<void(const error&)> warn{};
  /// The largest map made in one go, a power of two: larger ones are cut, so that requests on other ranges get their turn.
  std::uint64_t piece_bytes = std::uint64_t{256} << 20;
  /// Maps and unmaps of up to so many bytes, of memory that is resident, wait for the executor's next turn and are carried
  /// out there when the lane is idle, all that came by then as one batch: one takes a microsecond or two a page, and a wake
  /// of the lane would cost ten. 0: never. If they are more than 256 KiB, the lane does it.
  std::uint64_t in_place_bytes_max = std::uint64_t{64} << 10;
};

class container {
 public:
  /// How many requests may be under way, from the call until the executor takes the completion; one more completes with
  /// errc::queue_full, unless it disconnects or closes.
  static constexpr std::size_t queue_max = 65536;

  container(any_io_executor executor, kernel::files& kernel, workers& threads, container_options options = {});
  container(const container&) = delete;
  container& operator=(const container&) = delete;
  ~container();

  const any_io_executor& get_executor() const noexcept { return executor_; }

  /// Opens /dev/vfio/<group> and puts it into this container; the first group opens /dev/vfio/vfio and sets the IOMMU type:
  /// the richest that the kernel has. On failure nothing is left open. An error of operation::connect_container from a
  /// container that has groups says that the group does not go with them: another container may take it.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<container_info>)) Token>
  auto async_connect(unsigned group, Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_connect, group);
  }

  /// Takes a group out (VFIO_GROUP_UNSET_CONTAINER) and closes it; its devices are closed, and their mmaps gone, before.
  /// With the last group every mapping is gone and the container is as new. errc::not_attached; any other error is what the
  /// kernel refused on the way, and the group is gone from this container all the same.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_disconnect(unsigned group, Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_disconnect, group);
  }

  /// What the container offers with the groups in it now. errc::not_attached when there is none.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<container_info>)) Token>
  auto async_info(Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_info);
  }

  /// Opens a device of a connected group by its name in the group (VFIO_GROUP_GET_DEVICE_FD): a PCI address, a platform
  /// device's name. Completes when the device has said what it is.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<device>)) Token>
  auto async_open_device(unsigned group, std::string name, Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_open_device, group, std::move(name));
  }

  /// Closes a device in the lane, behind the requests given before: the driver may reset it. Harmless when it is closed.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_close_device(device which, Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_close_device, std::move(which));
  }

  /// VFIO_IOMMU_MAP_DMA. Completes without error only when the kernel said so. Refused before the kernel is asked: what
  /// meets a mapping (EEXIST), is misaligned or wraps (EINVAL), lies in no window (errc::outside_window), or is over what
  /// the kernel still allows (errc::no_mapping_left).
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_map(const mapping& what, Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_map, what);
  }

  /// VFIO_IOMMU_UNMAP_DMA of exactly `range`; a range that would cut in two what was mapped as one is EINVAL. Completes with
  /// the bytes that were unmapped: 0 where nothing was.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<std::uint64_t>)) Token>
  auto async_unmap(iova_range range, Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_unmap, range, std::span<std::uint64_t>{});
  }

  /// Everything there is: VFIO_DMA_UNMAP_FLAG_ALL, or on kernels before 5.12 two halves.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<std::uint64_t>)) Token>
  auto async_unmap_all(Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_unmap_all);
  }

  /// All of these, in this order, or none: what was done before a failure is taken back, and error::undone says so. Waits
  /// for the requests before it, and those behind it wait for it.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_apply(std::vector<change> changes, Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_apply, std::move(changes));
  }

  /// async_unmap with VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP: what devices dirtied up to the unmap, a bit a page of
  /// page_size(), is in `dirty`. Only while tracking. `dirty` holds at least size / page_size() bits, is zeroed here, and
  /// belongs to the operation until it completes. Several unmaps are made where one bitmap would be larger than
  /// container_info::dirty_bitmap_bytes_max; errc::bitmap_too_large, and nothing is unmapped, if one mapping's is.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<std::uint64_t>)) Token>
  auto async_unmap(iova_range range, std::span<std::uint64_t> dirty, Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_unmap, range, dirty);
  }

  /// VFIO_IOMMU_DIRTY_PAGES START and STOP; both may be repeated. errc::dirty_not_supported where the kernel cannot.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_start_dirty_tracking(Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_tracking, true);
  }
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_stop_dirty_tracking(Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_tracking, false);
  }

  /// VFIO_IOMMU_DIRTY_PAGES GET_BITMAP: the pages of `range` that devices dirtied since the last query, which the kernel
  /// thereby forgets. `range` must not cut a mapping. `dirty` as for async_unmap. After an error take the whole range as
  /// dirty. Several queries are made where one bitmap would be larger than container_info::dirty_bitmap_bytes_max;
  /// errc::bitmap_too_large if one mapping's is.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_query_dirty(iova_range range, std::span<std::uint64_t> dirty, Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_query_dirty, range, dirty);
  }

  // Memory that moves in this process, as for a live update, while devices go on reaching it: async_release_addresses; move
  // it; async_renew_addresses. In between every page stays pinned, mapped and tracked. Mappings may be unmapped, and new
  // ones made; refused as errc::addresses_released are a transaction that unmaps what has no address, since it could not be
  // taken back, and a group that comes, which the kernel could not pin for.

  /// VFIO_DMA_UNMAP_FLAG_VADDR: from now on nobody uses the host addresses of the mappings there are. All of them or, on
  /// failure, none; may be repeated. errc::release_not_supported where container_info::can_release_addresses is false.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_release_addresses(Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_release_addresses);
  }

  /// VFIO_DMA_MAP_FLAG_VADDR: where the memory is now. `all`, in any order, tells it of every mapping whose address is
  /// released, and of no other, unless it is what is known of that already. That the pages are the same is your promise.
  ///
  /// Refused before the kernel is asked, so that nothing has changed: errc::addresses_released, a mapping is left without an
  /// address; ENOENT, nothing is mapped there; EINVAL: misaligned, told twice, another address than is known, or a mapping
  /// that would be torn: what was mapped at once, or became one by mapping::unit, has moved as a whole.
  ///
  /// The mappings get their addresses in ascending order of IOVA. If the kernel refuses one, those below have theirs, that
  /// one (error::range) and those above have none, and error::undone says so: ask again for all of them.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_renew_addresses(std::vector<moved_memory> all, Token&& token) {
    return detail::initiate<Token>(this, token, &container::start_renew_addresses, std::move(all));
  }

 private:
  friend class dma::lane_calls;  // what the library itself does in a container's lane

  void start_call(placed_completion<void> done, operation what, iova_range range,
                  std::function<result<void>(const dma::lane_place&)> call);
  void start_connect(placed_completion<container_info> done, unsigned group);
  void start_disconnect(placed_completion<void> done, unsigned group);
  void start_info(placed_completion<container_info> done);
  void start_open_device(placed_completion<device> done, unsigned group, std::string name);
  void start_close_device(placed_completion<void> done, device which);
  void start_map(placed_completion<void> done, mapping what);
  void start_unmap_all(placed_completion<std::uint64_t> done);
  void start_apply(placed_completion<void> done, std::vector<change> changes);
  void start_unmap(placed_completion<std::uint64_t> done, iova_range range, std::span<std::uint64_t> dirty);
  void start_tracking(placed_completion<void> done, bool on);
  void start_query_dirty(placed_completion<void> done, iova_range range, std::span<std::uint64_t> dirty);
  void start_release_addresses(placed_completion<void> done);
  void start_renew_addresses(placed_completion<void> done, std::vector<moved_memory> all);

  class state;
  any_io_executor executor_;
  std::unique_ptr<state> state_;
};

}  // namespace tidemark
