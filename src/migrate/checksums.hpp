// SPDX-License-Identifier: Apache-2.0
//
// A checksum of each RAM block (XXH3, 128 bits), and the frame that carries them. Pure; reads all of the guest's memory, so
// it belongs on a worker.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/error.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace tidemark::migrate {

/// In the order of the blocks, as 32 hexadecimal digits.
std::vector<std::string> checksums_of(const std::vector<ram_block>& blocks);

std::string encode_checksums(const std::vector<std::string>& sums);
/// One for each block, or none at all: then nothing is to be compared.
result<std::vector<std::string>> decode_checksums(std::string_view body, std::size_t blocks);

}  // namespace tidemark::migrate
