// SPDX-License-Identifier: Apache-2.0
//
// Errors are values with context: what was being done, on which range, what the kernel (or Tidemark) answered, and what was
// undone. Nothing in Tidemark throws across an event loop and nothing aborts the program that embeds it.
//
// Every asynchronous operation completes with one `result<T>`: a T, or an `error`. There is no separate error_code argument,
// so a context can neither get lost nor be read when there was no error. `error::code` is an ordinary error_code for
// those who only want to compare.
//
// Threading: values; no shared state.

#pragma once

#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace tidemark {

/// A half-open range of bytes in an IOVA space: [iova, iova + size). Sizes are bytes. `size == 0` is "no range".
struct iova_range {
  std::uint64_t iova = 0;
  std::uint64_t size = 0;

  friend bool operator==(const iova_range&, const iova_range&) = default;
};

/// What Tidemark was doing when it failed.
enum class operation : std::uint8_t {
  open_group,
  connect_container,
  open_device,
  device_io,
  get_info,
  map,
  unmap,
  start_dirty_tracking,
  stop_dirty_tracking,
  query_dirty,
  query_cpu_dirty,
  release_addresses,
  renew_addresses,
  add_region,
  remove_region,
  populate_region,
  discard_region,
  move_blocks,
  connect_peer,
  send,
  receive,
  migrate,
  start_ring,
  block_ram_discard,
  tell_kvm,
  attach,
  detach,
  read_configuration,
  write_snapshot,
  read_snapshot,
  set_up_tls,
  change_device_state,
  read_device_state,
  write_device_state,
};

std::string_view name_of(operation what) noexcept;

/// Failures that are Tidemark's own and have no errno. The kernel's are in the system category, as errno.
enum class errc : int {
  group_not_viable = 1,     ///< a device of the group is bound to a driver that is not VFIO's
  no_iommu_model,           ///< the container offers no IOMMU type that Tidemark speaks
  no_iommu,                 ///< a noiommu group's devices can have nothing mapped
  group_in_other_space,     ///< a group whose devices are in another address space
  discard_disagrees,        ///< devices of one group that say different things about RAM discarding
  unmap_all_not_supported,  ///< the kernel has no VFIO_UNMAP_ALL
  not_attached,             ///< a group or device that has to be attached first
  api_version,              ///< VFIO_GET_API_VERSION is not VFIO_API_VERSION
  malformed_capability,     ///< a capability chain that loops or leaves its buffer
  dirty_not_supported,      ///< the container cannot track dirty pages
  bitmap_too_large,         ///< one mapping's bitmap is over the kernel's largest query
  region_overlaps,          ///< a region that meets one that is already there
  region_unknown,           ///< a region, RAM block or mapping that is not there
  region_misaligned,        ///< an address or size that is no multiple of the page
  queue_full,               ///< the lane holds as many requests as it may; try again when some have completed
  closed,                   ///< the object was closed before the operation could begin
  protocol,                 ///< the peer broke the migration protocol
  peer_closed,              ///< the peer went away in the middle of the migration
  not_identical,            ///< source and destination memory differ after the migration
  undecided,                ///< the connection broke between "you may run" and "I run": neither side may assume
  outside_window,           ///< a map that is not wholly inside one IOVA window
  no_mapping_left,          ///< more mappings than the kernel allows the container
  release_not_supported,    ///< the kernel, or a group in the container, cannot let go of host addresses
  addresses_released,       ///< a mapping has no host address now, and is to be given one first
  not_a_snapshot,           ///< a file that is none of Tidemark's snapshots, or one of a newer Tidemark
  snapshot_incomplete,      ///< a snapshot that nobody finished
  snapshot_damaged,         ///< a snapshot whose bytes are not those that were written
  untrusted,                ///< one side does not believe that the other is who it should be
  not_migratable,           ///< a device whose driver cannot take its state elsewhere
  device_lost,              ///< a device that neither changes its migration state nor can be reset
  not_tls,                  ///< what the peer sends is no TLS, where it is due
};

const boost::system::error_category& tidemark_category() noexcept;
boost::system::error_code make_error_code(errc code) noexcept;

struct error {
  boost::system::error_code code;
  operation what = operation::map;
  iova_range range;    ///< the range asked for; size 0 when the operation has none
  std::string detail;  ///< likely cause, and the command or knob that mends it; may be empty
  std::string undone;  ///< what was taken back, in words; empty when there was nothing to take back

  /// One line for a person: operation, range, answer, cause, what was undone.
  std::string message() const;
};

/// An `error` for the errno the kernel gave (a positive number).
error kernel_error(operation what, int errno_value, iova_range range = {}, std::string detail = {});
error make_error(operation what, errc code, iova_range range = {}, std::string detail = {});

template <class T>
using result = boost::system::result<T, error>;

/// Lets `result<T>::value()` throw boost::system::system_error for those who prefer exceptions.
[[noreturn]] void throw_exception_from_error(const error& failure, const boost::source_location& where);

}  // namespace tidemark

template <>
struct boost::system::is_error_code_enum<tidemark::errc> : std::true_type {};
