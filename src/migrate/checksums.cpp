// SPDX-License-Identifier: Apache-2.0

#include "migrate/checksums.hpp"

#include <xxhash.h>

#include <array>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "migrate/wire.hpp"

namespace tidemark::migrate {

namespace json = boost::json;

namespace {

std::string hexadecimal(const XXH128_canonical_t& sum) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : sum.digest) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

}  // namespace

std::vector<std::string> checksums_of(const std::vector<ram_block>& blocks) {
  std::vector<std::string> sums;
  for (const auto& block : blocks) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(block.host, block.size));
    sums.push_back(hexadecimal(canonical));
  }
  return sums;
}

std::string encode_checksums(const std::vector<std::string>& sums) {
  json::array list;
  for (const auto& sum : sums) list.push_back(json::string(sum));
  return json::serialize(json::object{{"blocks", std::move(list)}});
}

result<std::vector<std::string>> decode_checksums(std::string_view body, std::size_t blocks) {
  const auto object = decode_object(body);
  if (!object) return object.error();
  const auto* list = object->if_contains("blocks");
  if (!list || !list->is_array() || (list->get_array().size() != blocks && !list->get_array().empty()))
    return protocol_error("the checksums are not one for each RAM block");
  std::vector<std::string> sums;
  for (const auto& item : list->get_array()) {
    if (!item.is_string()) return protocol_error("a checksum is not text");
    sums.emplace_back(item.get_string());
  }
  return sums;
}

}  // namespace tidemark::migrate
