// SPDX-License-Identifier: Apache-2.0

#include <tidemark/error.hpp>

#include <boost/system/system_error.hpp>

#include "core/words.hpp"

namespace tidemark {

namespace {

class category final : public boost::system::error_category {
 public:
  const char* name() const noexcept override { return "tidemark"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
      case errc::group_not_viable:
        return "the group is not viable";
      case errc::no_iommu_model:
        return "no available IOMMU models";
      case errc::no_iommu:
        return "the group has no IOMMU: nothing can be mapped for its devices";
      case errc::group_in_other_space:
        return "the group is used in multiple address spaces";
      case errc::discard_disagrees:
        return "the devices of the group do not agree on RAM discarding";
      case errc::unmap_all_not_supported:
        return "unmapping everything at once is not supported";
      case errc::not_attached:
        return "not attached";
      case errc::api_version:
        return "the kernel speaks another VFIO API version";
      case errc::malformed_capability:
        return "the kernel's capability chain is malformed";
      case errc::dirty_not_supported:
        return "dirty page tracking is not supported";
      case errc::bitmap_too_large:
        return "the mapping's dirty bitmap is over the kernel's largest query";
      case errc::region_overlaps:
        return "the region overlaps one that is already there";
      case errc::region_unknown:
        return "there is no such region";
      case errc::region_misaligned:
        return "not a multiple of the page size";
      case errc::queue_full:
        return "the queue is full";
      case errc::closed:
        return "already closed";
      case errc::protocol:
        return "the peer broke the migration protocol";
      case errc::peer_closed:
        return "the peer closed the connection";
      case errc::not_identical:
        return "source and destination memory differ";
      case errc::undecided:
        return "the connection broke while the destination was taking over";
      case errc::outside_window:
        return "not inside one IOVA window";
      case errc::no_mapping_left:
        return "the kernel allows no more mappings";
      case errc::release_not_supported:
        return "host addresses cannot be released";
      case errc::addresses_released:
        return "a mapping has no host address now";
      case errc::not_a_snapshot:
        return "not a snapshot that this Tidemark can read";
      case errc::snapshot_incomplete:
        return "the snapshot is not complete";
      case errc::snapshot_damaged:
        return "the snapshot is damaged";
      case errc::untrusted:
        return "the two sides do not trust each other";
      case errc::not_migratable:
        return "the device cannot be migrated";
      case errc::device_lost:
        return "the device is lost";
      case errc::not_tls:
        return "the peer does not speak TLS";
    }
    return "unknown error";
  }
};

}  // namespace

const boost::system::error_category& tidemark_category() noexcept {
  static const category instance;
  return instance;
}

boost::system::error_code make_error_code(errc code) noexcept { return {static_cast<int>(code), tidemark_category()}; }

std::string_view name_of(operation what) noexcept {
  switch (what) {
    case operation::open_group:
      return "open group";
    case operation::connect_container:
      return "connect container";
    case operation::open_device:
      return "open device";
    case operation::device_io:
      return "device I/O";
    case operation::get_info:
      return "get container info";
    case operation::map:
      return "map";
    case operation::unmap:
      return "unmap";
    case operation::start_dirty_tracking:
      return "start dirty tracking";
    case operation::stop_dirty_tracking:
      return "stop dirty tracking";
    case operation::query_dirty:
      return "query dirty pages";
    case operation::query_cpu_dirty:
      return "query pages dirtied by CPUs";
    case operation::release_addresses:
      return "release host addresses";
    case operation::renew_addresses:
      return "renew host addresses";
    case operation::add_region:
      return "add region";
    case operation::remove_region:
      return "remove region";
    case operation::populate_region:
      return "populate region";
    case operation::discard_region:
      return "discard region";
    case operation::move_blocks:
      return "move RAM blocks";
    case operation::connect_peer:
      return "connect to peer";
    case operation::send:
      return "send";
    case operation::receive:
      return "receive";
    case operation::migrate:
      return "migrate";
    case operation::start_ring:
      return "start io_uring";
    case operation::tell_kvm:
      return "tell KVM";
    case operation::attach:
      return "attach";
    case operation::detach:
      return "detach";
    case operation::block_ram_discard:
      return "RAM discarding";
    case operation::read_configuration:
      return "read configuration";
    case operation::write_snapshot:
      return "write snapshot";
    case operation::read_snapshot:
      return "read snapshot";
    case operation::set_up_tls:
      return "set up TLS";
    case operation::change_device_state:
      return "change device state";
    case operation::read_device_state:
      return "read device state";
    case operation::write_device_state:
      return "write device state";
  }
  return "?";
}

std::string error::message() const {
  std::string text(name_of(what));
  if (range.size != 0) text += " " + core::words(range);
  text += ": " + code.message();
  if (!detail.empty()) text += ": " + detail;
  if (!undone.empty()) text += " (" + undone + ")";
  return text;
}

error kernel_error(operation what, int errno_value, iova_range range, std::string detail) {
  return {{errno_value, boost::system::system_category()}, what, range, std::move(detail), {}};
}

error make_error(operation what, errc code, iova_range range, std::string detail) {
  return {make_error_code(code), what, range, std::move(detail), {}};
}

void throw_exception_from_error(const error& failure, const boost::source_location&) {
  throw boost::system::system_error(failure.code, failure.message());
}

}  // namespace tidemark
