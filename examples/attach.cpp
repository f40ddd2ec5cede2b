// SPDX-License-Identifier: Apache-2.0
//
// attach DEVICE: attaches a device of this host, by its PCI address or sysfs path, shows it a mebibyte of this program's
// memory, says what the device is, and detaches it.

#include <tidemark/address_space.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

using boost::asio::awaitable;
using boost::asio::use_awaitable;

namespace {

constexpr std::size_t memory_bytes = 1 << 20;

void print(const tidemark::device& which) {
  const auto& info = which.info();
  std::printf("%s, group %u%s\n", which.name().c_str(), which.group(), info.can_reset ? ", can be reset" : "");
  for (const auto& region : info.regions)
    if (region.size != 0)
      std::printf("  region %u: %llu bytes%s\n", region.index, static_cast<unsigned long long>(region.size),
                  region.mappable.empty() ? "" : ", mappable");
  for (const auto& irq : info.irqs)
    if (irq.count != 0) std::printf("  irq %u: %u\n", irq.index, irq.count);
  if (info.migration.stop_copy)
    std::printf("  migrates%s%s\n", info.migration.p2p ? ", P2P" : "", info.migration.pre_copy ? ", pre-copy" : "");
  if (info.logs_dma) std::printf("  logs its DMA\n");
}

awaitable<tidemark::result<void>> show(tidemark::address_space& space, std::string which, std::byte* memory) {
  const auto block = space.add_block({"ram0", memory, memory_bytes});
  if (!block) co_return block.error();
  auto added = co_await space.async_add({{0, memory_bytes}, *block}, use_awaitable);
  if (!added) co_return added;
  const auto attached = co_await space.async_attach(which, use_awaitable);
  if (!attached) co_return attached.error();
  print(*attached);
  co_return co_await space.async_detach(*attached, use_awaitable);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return std::fprintf(stderr, "usage: attach DEVICE\n"), 2;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(tidemark::page_bytes, memory_bytes));
  if (memory == nullptr) return std::fprintf(stderr, "no memory\n"), 1;
  boost::asio::io_context loop;
  tidemark::host host(tidemark::kernel::host_kernel());
  tidemark::address_space space(loop.get_executor(), host);
  int status = 1;
  const auto run = [&]() -> awaitable<void> {
    const auto shown = co_await show(space, arguments[1], memory);
    if (shown) {
      status = 0;
    } else {
      std::fprintf(stderr, "%s\n", shown.error().message().c_str());
    }
  };
  boost::asio::co_spawn(loop, run, boost::asio::detached);
  loop.run();
  std::free(memory);
  return status;
}
