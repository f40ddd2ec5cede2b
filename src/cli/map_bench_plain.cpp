// SPDX-License-Identifier: Apache-2.0

#include "cli/map_bench_plain.hpp"

#include <fcntl.h>
#include <linux/vfio.h>

#include <cerrno>
#include <string>
#include <utility>

#include "ring/loop.hpp"

namespace tidemark::cli {
namespace {

/// The visits of one phase, timed from one answer to the next: the clock is read once an operation.
class stopwatch {
 public:
  explicit stopwatch(measured& into) : into_(into), began_(ring::clock::now()), since_(began_) {}

  void due_at_the_start() noexcept { since_ = began_; }
  void done(bool counts) {
    const auto now = ring::clock::now();
    if (counts) into_.latency_ns.push_back(static_cast<std::uint64_t>(nanoseconds(now - since_).count()));
    since_ = now;
    ++into_.operations;
  }
  nanoseconds elapsed() const noexcept { return since_ > began_ ? since_ - began_ : nanoseconds{0}; }

 private:
  measured& into_;
  ring::clock::time_point began_;
  ring::clock::time_point since_;
};

error refused(operation what, int answer, iova_range at) {
  std::string detail = "in the plain loop";
  if (answer == -ENOMEM) detail += ": raise the locked-memory limit (ulimit -l unlimited), or ask for less --memory";
  if (answer == -EINVAL) detail += ": perhaps the device's IOMMU does not reach so far, and needs less --memory";
  return kernel_error(what, -answer, at, std::move(detail));
}

}  // namespace

// A group is taken by its first user: a program that has it, or the engine's container if that was not closed.
result<std::unique_ptr<plain_side>> plain_side::open(counting_kernel& kernel, const backend::device_place& device) {
  std::unique_ptr<plain_side> made(new plain_side(kernel));
  if (const int answer = made->join(device); answer < 0)
    return kernel_error(operation::connect_container, -answer, {},
                        "group " + std::to_string(device.group) + " in the plain loop's container, which is a type1 one");
  return made;
}

int plain_side::join(const backend::device_place& device) {
  const auto path = "/dev/vfio/" + std::to_string(device.group);
  const int group = kernel_.open(path.c_str(), O_RDWR);
  if (group < 0) return group;
  group_ = kernel::handle(kernel_, group);
  const int container = kernel_.open("/dev/vfio/vfio", O_RDWR);
  if (container < 0) return container;
  container_ = kernel::handle(kernel_, container);
  if (const int answer = kernel_.ioctl(group, VFIO_GROUP_SET_CONTAINER, &container); answer < 0) return answer;
  if (const int answer = set_iommu(); answer < 0) return answer;
  const int opened = kernel_.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, device.name.c_str());
  if (opened < 0) return opened;
  device_ = kernel::handle(kernel_, opened);
  return 0;
}

int plain_side::set_iommu() noexcept {
  for (const std::uintptr_t type : {std::uintptr_t{VFIO_TYPE1v2_IOMMU}, std::uintptr_t{VFIO_TYPE1_IOMMU}}) {
    if (kernel_.ioctl(container_.get(), VFIO_CHECK_EXTENSION, type) > 0)
      return kernel_.ioctl(container_.get(), VFIO_SET_IOMMU, type);
  }
  return -ENODEV;
}

plain_side::~plain_side() {
  device_.reset();
  if (group_) kernel_.ioctl(group_.get(), VFIO_GROUP_UNSET_CONTAINER);
}

int plain_side::map(iova_range at, std::byte* host) noexcept {
  vfio_iommu_type1_dma_map request{};
  request.argsz = sizeof request;
  request.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  request.vaddr = reinterpret_cast<std::uintptr_t>(host);
  request.iova = at.iova;
  request.size = at.size;
  return kernel_.ioctl(container_.get(), VFIO_IOMMU_MAP_DMA, &request);
}

int plain_side::unmap(iova_range at) noexcept {
  vfio_iommu_type1_dma_unmap request{};
  request.argsz = sizeof request;
  request.iova = at.iova;
  request.size = at.size;
  return kernel_.ioctl(container_.get(), VFIO_IOMMU_UNMAP_DMA, &request);
}

result<void> plain_side::play(const phase& what, std::byte* memory, measured& into) {
  const auto host = [&](iova_range at) { return memory + (at.iova - bench_iova); };
  stopwatch watch(into);
  if (what.beside.size != 0) {
    if (const int answer = map(what.beside, host(what.beside)); answer < 0)
      return refused(operation::map, answer, what.beside);
    watch.done(false);
  }
  for (std::size_t i = 0; i < what.visits.size(); ++i) {
    const auto& [at, kind] = what.visits[i];
    if (what.at_once && i < what.in_flight) watch.due_at_the_start();
    if (kind != visit::kind::unmap) {
      if (const int answer = map(at, host(at)); answer < 0) return refused(operation::map, answer, at);
      watch.done(true);
    }
    if (kind != visit::kind::map) {
      if (const int answer = unmap(at); answer < 0) return refused(operation::unmap, answer, at);
      watch.done(true);
    }
  }
  into.elapsed += watch.elapsed();
  return {};
}

result<measured> plain_side::play(const script& what, std::byte* memory) {
  measured timed;
  measured untimed;
  for (const auto& part : what.phases) {
    const auto before = kernel_.map_ioctls();
    auto& into = part.timed ? timed : untimed;
    into.latency_ns.reserve(into.latency_ns.size() + 2 * part.visits.size());
    if (auto done = play(part, memory, into); !done) return done.error();
    into.ioctls += kernel_.map_ioctls() - before;
  }
  return timed;
}

}  // namespace tidemark::cli
