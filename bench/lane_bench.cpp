// SPDX-License-Identifier: Apache-2.0
//
// What a lane adds to an ioctl: maps on a kernel that does nothing.
//   raw          a plain loop of the same calls
//   lane/N       N maps submitted at once and awaited, through a container, its lane's thread and back to the loop

#include <benchmark/benchmark.h>
#include <linux/vfio.h>
#include <tidemark/container.hpp>

#include <boost/asio/bind_executor.hpp>

#include "backend/container_file.hpp"
#include "ring/await.hpp"
#include "ring/executor.hpp"
#include "ring/uring_loop.hpp"

namespace {

using namespace tidemark;

/// Agrees to everything and does nothing.
class null_kernel final : public kernel::files {
 public:
  using kernel::files::ioctl;
  int open(const char*, int) noexcept override { return 3; }
  int close(int) noexcept override { return 0; }
  int ioctl(int, unsigned long request, std::uintptr_t argument) noexcept override {
    if (request == VFIO_CHECK_EXTENSION) return 1;
    if (request == VFIO_GROUP_GET_STATUS) reinterpret_cast<vfio_group_status*>(argument)->flags = VFIO_GROUP_FLAGS_VIABLE;
    return 0;
  }
  ssize_t read(int, void*, std::size_t) noexcept override { return 0; }
  ssize_t write(int, const void*, std::size_t) noexcept override { return 0; }
  ssize_t pread(int, void*, std::size_t, std::uint64_t) noexcept override { return 0; }
  ssize_t pwrite(int, const void*, std::size_t, std::uint64_t) noexcept override { return 0; }
  ssize_t readlink(const char*, char*, std::size_t) noexcept override { return 0; }
};

mapping one_page(std::uint64_t index) { return {{index << 12, 4096}, nullptr, true}; }

void raw(benchmark::State& state) {
  null_kernel kernel;
  backend::container_file file(kernel, {});
  if (!file.connect(0)) return state.SkipWithError("connect");
  auto& backend = **file.driver(operation::map, {});
  std::uint64_t index = 0;
  for (auto _ : state) benchmark::DoNotOptimize(backend.map(one_page(++index)).has_value());
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(raw);

ring::task<> batches(benchmark::State& state, ring::uring_loop& loop, container& in) {
  const any_io_executor here = loop.get_executor();
  (void)co_await in.async_connect(0, ring::resume_on{here});
  const auto size = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    ring::latch left(size);
    for (std::size_t i = 0; i < size; ++i)
      in.async_map(one_page(i), boost::asio::bind_executor(here, [&left](const result<void>&) { left.count_down(); }));
    co_await left;
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  loop.stop();
}

void lane(benchmark::State& state) {
  null_kernel kernel;
  auto loop = ring::uring_loop::make();
  if (!loop) return state.SkipWithError(loop.error().message().c_str());
  container in((*loop)->get_executor(), kernel, thread_workers());
  ring::start(batches(state, **loop, in));
  if (!(*loop)->run()) state.SkipWithError("the loop ended early");
}
BENCHMARK(lane)->Arg(1)->Arg(64)->Arg(1024)->UseRealTime();

}  // namespace
