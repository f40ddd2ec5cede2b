// SPDX-License-Identifier: Apache-2.0

#include <tidemark/pagemap_source.hpp>

#include <utility>

#include "dirty/pagemap_tracker.hpp"

namespace tidemark {

namespace {

std::vector<seen_memory> all_of(const std::vector<ram_block>& blocks) {
  std::vector<seen_memory> memory;
  memory.reserve(blocks.size());
  for (const auto& block : blocks) memory.push_back({block.host, block.size, static_cast<block_index>(memory.size()), 0});
  return memory;
}

}  // namespace

pagemap_source::pagemap_source(const std::vector<ram_block>& blocks) : pagemap_source(all_of(blocks)) {}
pagemap_source::pagemap_source(std::vector<seen_memory> memory)
    : tracker_(std::make_unique<dirty::pagemap_tracker>(std::move(memory), kernel::host_kernel(), dirty::system_calls())) {}
pagemap_source::~pagemap_source() = default;

result<void> pagemap_source::start() { return tracker_->start(); }
result<void> pagemap_source::harvest(page_sink& to) { return tracker_->harvest(to); }
void pagemap_source::stop() noexcept { tracker_->stop(); }

}  // namespace tidemark
