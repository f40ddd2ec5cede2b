// SPDX-License-Identifier: Apache-2.0
//
// /dev/vfio/vfio: what it offers, when it takes an IOMMU type, and what it answers without one.

#include <cerrno>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

int offers(const bench& b, const kernel::handle& container, std::uintptr_t extension) {
  return b.kernel.ioctl(container.get(), VFIO_CHECK_EXTENSION, extension);
}

int set_iommu(const bench& b, const kernel::handle& container, std::uintptr_t type) {
  return b.kernel.ioctl(container.get(), VFIO_SET_IOMMU, type);
}

// --- before SET_IOMMU ---

void api_version(bench& b) {
  const auto container = b.open_container();
  expect(b.kernel.ioctl(container.get(), VFIO_GET_API_VERSION), VFIO_API_VERSION, "GET_API_VERSION");
}

void extensions_of_empty(bench& b) {
  const auto container = b.open_container();
  expect(offers(b, container, VFIO_TYPE1_IOMMU), 1, "TYPE1");
  expect(offers(b, container, VFIO_TYPE1v2_IOMMU), 1, "TYPE1v2");
  expect(offers(b, container, VFIO_UNMAP_ALL), b.since(5, 12) ? 1 : 0, "UNMAP_ALL");
}

void undecided_extensions(bench& b) {
  const auto container = b.open_container();
  expect(offers(b, container, VFIO_UPDATE_VADDR), 0, "UPDATE_VADDR");
  expect(offers(b, container, VFIO_DMA_CC_IOMMU), 0, "DMA_CC_IOMMU");
}

void absent_extensions(bench& b) {
  const auto container = b.open_container();
  expect(offers(b, container, VFIO_SPAPR_TCE_v2_IOMMU), 0, "sPAPR v2");
  expect(offers(b, container, 999), 0, "an unknown number");
}

void requests_without_iommu(bench& b) {
  const auto group = b.open_group(b.emulated());
  const auto container = b.open_container();
  expect(b.attach(group, container), 0, "SET_CONTAINER");
  vfio_iommu_type1_dma_map map{.argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ, .vaddr = 0, .iova = 0, .size = page};
  expect(b.kernel.ioctl(container.get(), VFIO_IOMMU_MAP_DMA, &map), -EINVAL, "MAP_DMA");
  expect(b.kernel.ioctl(container.get(), VFIO_IOMMU_UNMAP_DMA, &map), -EINVAL, "UNMAP_DMA");
  expect(b.kernel.ioctl(container.get(), VFIO_IOMMU_GET_INFO, &map), -EINVAL, "GET_INFO");
  expect(b.kernel.ioctl(container.get(), VFIO_IOMMU_DIRTY_PAGES, &map), -EINVAL, "DIRTY_PAGES");
  expect(b.kernel.ioctl(container.get(), VFIO_DEVICE_RESET), -EINVAL, "a request no container knows");
}

// --- SET_IOMMU ---

void no_group(bench& b) {
  const auto container = b.open_container();
  expect(set_iommu(b, container, VFIO_TYPE1v2_IOMMU), -EINVAL, "SET_IOMMU");
}

void second_time(bench& b) {
  const session s = emulated_session(b);
  expect(set_iommu(b, s.container, VFIO_TYPE1v2_IOMMU), -EINVAL, "the same type again");
  expect(set_iommu(b, s.container, VFIO_TYPE1_IOMMU), -EINVAL, "another type");
}

void unsupported_type(bench& b) {
  const auto group = b.open_group(b.emulated());
  const auto container = b.open_container();
  expect(b.attach(group, container), 0, "SET_CONTAINER");
  expect(set_iommu(b, container, VFIO_SPAPR_TCE_v2_IOMMU), -ENODEV, "sPAPR v2");
  expect(set_iommu(b, container, 999), -ENODEV, "an unknown number");
  expect(set_iommu(b, container, VFIO_TYPE1v2_IOMMU), 0, "a type it has, afterwards");
}

void extension_as_type(bench& b) {
  const auto group = b.open_group(b.emulated());
  const auto container = b.open_container();
  expect(b.attach(group, container), 0, "SET_CONTAINER");
  expect(set_iommu(b, container, VFIO_UNMAP_ALL), -EINVAL, "SET_IOMMU of VFIO_UNMAP_ALL");
}

// --- after SET_IOMMU ---

void extensions_emulated(bench& b) {
  const session s = emulated_session(b);
  expect(offers(b, s.container, VFIO_TYPE1v2_IOMMU), 1, "TYPE1v2");
  expect(offers(b, s.container, VFIO_UPDATE_VADDR), 0, "UPDATE_VADDR, which emulated groups forbid");
  expect(offers(b, s.container, VFIO_DMA_CC_IOMMU), 1, "DMA_CC_IOMMU, with no IOMMU to deny it");
}

void extensions_backed(bench& b) {
  const session s = backed_session(b);
  expect(offers(b, s.container, VFIO_UPDATE_VADDR), b.since(5, 12) ? 1 : 0, "UPDATE_VADDR");
}

void coherent(bench& b) {
  const session s = backed_session(b);
  expect(offers(b, s.container, VFIO_DMA_CC_IOMMU), 1, "DMA_CC_IOMMU");
}

void not_coherent(bench& b) {
  const session s = backed_session(b);
  expect(offers(b, s.container, VFIO_DMA_CC_IOMMU), 0, "DMA_CC_IOMMU, which the guest's IOMMU lacks");
}

void unknown_request(bench& b) {
  const session s = emulated_session(b);
  expect(b.kernel.ioctl(s.container.get(), VFIO_DEVICE_RESET), -ENOTTY, "a request no container knows");
}

void no_reading(bench& b) {
  const auto container = b.open_container();
  char byte = 0;
  expect(b.kernel.read(container.get(), &byte, 1), -EINVAL, "read");
  expect(b.kernel.write(container.get(), &byte, 1), -EINVAL, "write");
}

void closed_descriptor(bench& b) {
  auto container = b.open_container();
  const int stale = container.get();
  container.reset();
  expect(b.kernel.ioctl(stale, VFIO_GET_API_VERSION), -EBADF, "ioctl");
  expect(b.kernel.close(stale), -EBADF, "a second close");
}

void many_containers(bench& b) {
  std::vector<kernel::handle> containers;
  for (int i = 0; i < 100; ++i) containers.push_back(b.open_container());
  for (const auto& container : containers) expect(offers(b, container, VFIO_TYPE1v2_IOMMU), 1, "TYPE1v2");
}

}  // namespace

std::vector<test_case> container_cases() {
  return {
      {"container: the API version", api_version},
      {"container: before a type is set it offers type1, type1v2 and UNMAP_ALL", extensions_of_empty},
      {"container: what depends on the groups it denies before a type is set", undecided_extensions},
      {"container: what it does not have it denies", absent_extensions},
      {"container: without a type every IOMMU request is EINVAL", requests_without_iommu},
      {"container: SET_IOMMU without a group is EINVAL", no_group},
      {"container: SET_IOMMU a second time is EINVAL", second_time},
      {"container: SET_IOMMU of a type it lacks is ENODEV", unsupported_type},
      {"container: SET_IOMMU of an extension that is no type is EINVAL", extension_as_type, {5, 12}},
      {"container: emulated groups forbid UPDATE_VADDR", extensions_emulated},
      {"container: IOMMU-backed groups allow UPDATE_VADDR", extensions_backed},
      {.name = "container: an IOMMU that enforces coherency says so",
       .run = coherent,
       .shape = [](kernel::model_options& options) { options.cache_coherent = true; },
       .model_only = "the guest's IOMMU has no snoop control"},
      {"container: an IOMMU that does not enforce coherency says so", not_coherent},
      {"container: an unknown request is ENOTTY once a type is set", unknown_request},
      {"container: read and write are EINVAL", no_reading},
      {"container: a closed descriptor is EBADF", closed_descriptor},
      {"container: a hundred are open at once", many_containers},
  };
}

}  // namespace tidemark::conformance
