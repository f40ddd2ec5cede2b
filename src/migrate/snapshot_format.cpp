// SPDX-License-Identifier: Apache-2.0

#include "migrate/snapshot_format.hpp"

#include <xxhash.h>

#include <bit>
#include <cstring>
#include <new>
#include <optional>
#include <set>
#include <utility>

#include "core/bitmap.hpp"

namespace tidemark::migrate {

namespace {

static_assert(std::endian::native == std::endian::little,
              "snapshots are little-endian, and this code writes numbers as they are");

constexpr std::uint64_t word_bytes = sizeof(std::uint64_t);
constexpr std::uint64_t block_entry_bytes_max = 2 * word_bytes + snapshot_name_bytes_max;
constexpr std::uint64_t device_entry_bytes_max = word_bytes + snapshot_name_bytes_max;

constexpr std::uint64_t up_to(std::uint64_t value, std::uint64_t unit) noexcept { return (value + unit - 1) / unit * unit; }

template <class Part>
std::uint64_t checksum_of(const Part& part) noexcept {
  return XXH3_64bits(&part, offsetof(Part, checksum));
}

// --- tables ---

void append(std::string& table, std::uint64_t number) {
  table.append(reinterpret_cast<const char*>(&number), sizeof number);
}

void append(std::string& table, std::string_view name) {
  append(table, std::uint64_t{name.size()});
  table.append(name);
  table.resize(up_to(table.size(), word_bytes));
}

/// Takes a table apart from its front. Nothing: it ends before.
class table_reader {
 public:
  explicit table_reader(std::string_view table) noexcept : left_(table) {}

  std::optional<std::uint64_t> number() noexcept {
    std::uint64_t value = 0;
    if (left_.size() < sizeof value) return std::nullopt;
    std::memcpy(&value, left_.data(), sizeof value);
    left_.remove_prefix(sizeof value);
    return value;
  }

  std::optional<std::string> name() {
    const auto bytes = number();
    if (!bytes || *bytes == 0 || *bytes > snapshot_name_bytes_max) return std::nullopt;
    if (left_.size() < up_to(*bytes, word_bytes)) return std::nullopt;
    std::string value(left_.substr(0, *bytes));
    left_.remove_prefix(up_to(*bytes, word_bytes));
    return value;
  }

  bool at_end() const noexcept { return left_.empty(); }

 private:
  std::string_view left_;
};

result<void> check_table(std::string_view table, std::uint64_t checksum, const char* which) {
  if (XXH3_64bits(table.data(), table.size()) == checksum) return {};
  return snapshot_damage(std::string("the table of ") + which + " differs from its checksum");
}

bool is_within_bounds(const snapshot_trailer& trailer) noexcept {
  return trailer.pages != 0 && trailer.pages <= snapshot_pages_max && trailer.stored_pages <= trailer.pages &&
         trailer.blocks != 0 && trailer.blocks <= snapshot_blocks_max &&
         trailer.blocks_bytes <= trailer.blocks * block_entry_bytes_max && trailer.devices <= snapshot_devices_max &&
         trailer.device_pieces <= snapshot_device_pieces_max &&
         trailer.states_bytes <= trailer.device_pieces * snapshot_piece_bytes &&
         trailer.devices_bytes <= trailer.devices * device_entry_bytes_max + trailer.device_pieces * sizeof(snapshot_piece);
}

}  // namespace

snapshot_layout snapshot_layout::of(std::uint64_t pages, std::uint64_t blocks_bytes) noexcept {
  snapshot_layout layout;
  layout.pages = pages;
  layout.checksums_offset = page_offset(pages);
  layout.bitmap_offset = layout.checksums_offset + up_to(pages * word_bytes, page_bytes);
  layout.blocks_offset = layout.bitmap_offset + up_to(core::words_for(pages) * word_bytes, page_bytes);
  layout.states_offset = layout.blocks_offset + up_to(blocks_bytes, page_bytes);
  return layout;
}

std::uint64_t snapshot_layout::devices_offset(std::uint64_t states_bytes) const noexcept {
  return states_offset + up_to(states_bytes, page_bytes);
}

std::uint64_t snapshot_layout::trailer_offset(std::uint64_t states_bytes, std::uint64_t devices_bytes) const noexcept {
  return devices_offset(states_bytes) + up_to(devices_bytes, page_bytes);
}

std::uint64_t snapshot_checksum(std::span<const std::byte> bytes) noexcept {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t snapshot_page_checksum(std::uint64_t page, const std::byte* bytes) noexcept {
  return XXH3_64bits_withSeed(bytes, page_bytes, page);
}

snapshot_sum::snapshot_sum() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_64bits_reset(state_);
}

snapshot_sum::~snapshot_sum() { XXH3_freeState(state_); }

void snapshot_sum::add(std::span<const std::byte> bytes) noexcept { XXH3_64bits_update(state_, bytes.data(), bytes.size()); }

std::uint64_t snapshot_sum::value() const noexcept { return XXH3_64bits_digest(state_); }

snapshot_header sealed(snapshot_header header) noexcept {
  header.checksum = checksum_of(header);
  return header;
}

snapshot_trailer sealed(snapshot_trailer trailer) noexcept {
  trailer.checksum = checksum_of(trailer);
  return trailer;
}

result<void> check_header(const snapshot_header& header, std::uint64_t file_bytes) {
  if (header.magic != snapshot_magic)
    return make_error(operation::read_snapshot, errc::not_a_snapshot, {}, "it does not begin as a snapshot does");
  if (header.version != snapshot_version)
    return make_error(operation::read_snapshot, errc::not_a_snapshot, {},
                      "its format is version " + std::to_string(header.version) + ", this Tidemark reads version " +
                          std::to_string(snapshot_version));
  if (header.checksum != checksum_of(header)) return snapshot_damage("its header differs from the header's checksum");
  if (header.state == snapshot_state::incomplete)
    return make_error(operation::read_snapshot, errc::snapshot_incomplete, {},
                      "whoever wrote it has not finished, or ended before; only writing it anew helps");
  if (header.state != snapshot_state::complete) return snapshot_damage("its header is neither complete nor incomplete");
  if (header.file_bytes != file_bytes)
    return snapshot_damage("it has " + std::to_string(file_bytes) + " bytes instead of " +
                           std::to_string(header.file_bytes) + "; was it cut off, or copied only in part?");
  if (file_bytes < sizeof(snapshot_trailer) || header.trailer_offset != file_bytes - sizeof(snapshot_trailer))
    return snapshot_damage("its trailer is not at its end");
  return {};
}

result<void> check_trailer(const snapshot_trailer& trailer, std::uint64_t trailer_offset) {
  if (trailer.magic != snapshot_trailer_magic || trailer.checksum != checksum_of(trailer))
    return snapshot_damage("its trailer differs from the trailer's checksum");
  if (!is_within_bounds(trailer)) return snapshot_damage("its trailer announces more than a snapshot may hold");
  const auto layout = snapshot_layout::of(trailer.pages, trailer.blocks_bytes);
  if (layout.trailer_offset(trailer.states_bytes, trailer.devices_bytes) != trailer_offset)
    return snapshot_damage("the parts that its trailer announces do not end at the trailer");
  return {};
}

std::string why_not_blocks(std::span<const block_description> blocks) {
  if (blocks.empty() || blocks.size() > snapshot_blocks_max)
    return "a snapshot is of 1 to " + std::to_string(snapshot_blocks_max) + " RAM blocks, not of " +
           std::to_string(blocks.size());
  std::set<std::string_view> names;
  std::uint64_t pages = 0;
  for (const auto& block : blocks) {
    if (block.name.empty() || block.name.size() > snapshot_name_bytes_max)
      return "a RAM block's name has 1 to " + std::to_string(snapshot_name_bytes_max) + " bytes";
    if (!names.insert(block.name).second) return "two RAM blocks have the name " + block.name;
    if (block.size == 0 || block.size % page_bytes != 0)
      return "the size of RAM block " + block.name + " is not whole pages";
    if (block.size / page_bytes > snapshot_pages_max - pages) return "the RAM blocks are more than 64 TiB";
    pages += block.size / page_bytes;
  }
  return {};
}

std::string encode_snapshot_blocks(std::span<const block_description> blocks) {
  std::string table;
  for (const auto& block : blocks) {
    append(table, block.size);
    append(table, std::string_view(block.name));
  }
  return table;
}

result<std::vector<block_description>> decode_snapshot_blocks(std::string_view table, const snapshot_trailer& trailer) {
  if (auto good = check_table(table, trailer.blocks_checksum, "RAM blocks"); !good) return good.error();
  table_reader from(table);
  std::vector<block_description> blocks;
  std::uint64_t bytes = 0;
  while (blocks.size() < trailer.blocks) {
    const auto size = from.number();
    auto name = from.name();
    if (!size || !name) return snapshot_damage("the table of RAM blocks is cut off, or has a name of no length");
    bytes += *size;
    blocks.push_back({std::move(*name), *size});
  }
  if (const auto why = why_not_blocks(blocks); !why.empty()) return snapshot_damage(why);
  if (!from.at_end() || bytes != trailer.pages * page_bytes)
    return snapshot_damage("the RAM blocks are not those that its trailer announces");
  return blocks;
}

std::string encode_snapshot_devices(const snapshot_devices& devices) {
  std::string table;
  for (const auto& name : devices.names) append(table, std::string_view(name));
  table.append(reinterpret_cast<const char*>(devices.pieces.data()), devices.pieces.size() * sizeof(snapshot_piece));
  return table;
}

result<snapshot_devices> decode_snapshot_devices(std::string_view table, const snapshot_trailer& trailer) {
  if (auto good = check_table(table, trailer.devices_checksum, "devices"); !good) return good.error();
  table_reader from(table);
  snapshot_devices devices;
  std::set<std::string_view> names;
  for (std::uint64_t i = 0; i < trailer.devices; ++i) {
    auto name = from.name();
    if (!name) return snapshot_damage("the table of devices is cut off, or has a name of no length");
    devices.names.push_back(std::move(*name));
  }
  for (const auto& name : devices.names)
    if (!names.insert(name).second) return snapshot_damage("two devices have the name " + name);
  std::uint64_t bytes = 0;
  for (std::uint64_t i = 0; i < trailer.device_pieces; ++i) {
    const auto place = from.number();
    const auto checksum = from.number();
    if (!place || !checksum) return snapshot_damage("the table of devices' pieces is cut off");
    const snapshot_piece piece{static_cast<std::uint32_t>(*place), static_cast<std::uint32_t>(*place >> 32), *checksum};
    if (piece.device >= trailer.devices || piece.bytes == 0 || piece.bytes > snapshot_piece_bytes)
      return snapshot_damage("a piece of a device's state is of no device, or not of 1 byte to 512 KiB");
    bytes += piece.bytes;
    devices.pieces.push_back(piece);
  }
  if (!from.at_end() || bytes != trailer.states_bytes)
    return snapshot_damage("the devices' states are not those that its trailer announces");
  return devices;
}

error snapshot_damage(std::string why) {
  return make_error(operation::read_snapshot, errc::snapshot_damaged, {}, std::move(why));
}

}  // namespace tidemark::migrate
