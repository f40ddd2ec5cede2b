// SPDX-License-Identifier: Apache-2.0
//
// PCI devices: information, regions, interrupts, and what can be read and written. The device is QEMU's edu.
//
// covers R5 R11

#include <cerrno>
#include <cstring>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint64_t config = std::uint64_t{VFIO_PCI_CONFIG_REGION_INDEX} << 40;
constexpr std::uint64_t command = config + 4;
constexpr std::uint16_t memory_enabled = 2;

struct opened {
  explicit opened(const bench& b) : s(backed_session(b)), device(s.device()) {}

  vfio_region_info region(std::uint32_t index, int answer = 0) const {
    vfio_region_info info{};
    info.argsz = sizeof(info);
    info.index = index;
    expect(s.on.kernel.ioctl(device.get(), VFIO_DEVICE_GET_REGION_INFO, &info), answer, "GET_REGION_INFO");
    return info;
  }
  vfio_irq_info irq(std::uint32_t index, int answer = 0) const {
    vfio_irq_info info{};
    info.argsz = sizeof(info);
    info.index = index;
    expect(s.on.kernel.ioctl(device.get(), VFIO_DEVICE_GET_IRQ_INFO, &info), answer, "GET_IRQ_INFO");
    return info;
  }
  long long read(std::uint64_t offset, std::size_t bytes) const {
    std::vector<std::byte> buffer(bytes);
    return s.on.kernel.pread(device.get(), buffer.data(), bytes, offset);
  }
  std::uint16_t word(std::uint64_t offset) const {
    std::uint16_t value = 0;
    expect(s.on.kernel.pread(device.get(), &value, sizeof(value), offset), sizeof(value), "pread");
    return value;
  }
  void set_word(std::uint64_t offset, std::uint16_t value) const {
    expect(s.on.kernel.pwrite(device.get(), &value, sizeof(value), offset), sizeof(value), "pwrite");
  }

  session s;
  kernel::handle device;
};

// --- information ---

void info(bench& b) {
  const opened o(b);
  vfio_device_info told{};
  told.argsz = sizeof(told);
  told.cap_offset = 99;
  expect(b.kernel.ioctl(o.device.get(), VFIO_DEVICE_GET_INFO, &told), 0, "GET_INFO");
  expect(told.flags, VFIO_DEVICE_FLAGS_PCI, "flags: it cannot be reset");
  expect(told.num_regions, VFIO_PCI_NUM_REGIONS, "regions");
  expect(told.num_irqs, VFIO_PCI_NUM_IRQS, "irqs");
  expect(told.cap_offset, 0, "cap_offset");
  told.argsz = offsetof(vfio_device_info, cap_offset);
  told.cap_offset = 99;
  expect(b.kernel.ioctl(o.device.get(), VFIO_DEVICE_GET_INFO, &told), 0, "GET_INFO with the older structure");
  expect(told.cap_offset, 99, "what lies behind it");
  expect(b.kernel.ioctl(o.device.get(), VFIO_DEVICE_GET_INFO), -EFAULT, "GET_INFO without an address");
}

void regions(bench& b) {
  const opened o(b);
  const auto bar = o.region(VFIO_PCI_BAR0_REGION_INDEX);
  expect(bar.size, 1 << 20, "bytes of BAR 0");
  expect(bar.flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE | VFIO_REGION_INFO_FLAG_MMAP, "its flags");
  expect(bar.offset, 0, "its offset");
  const auto space = o.region(VFIO_PCI_CONFIG_REGION_INDEX);
  expect(space.size, 256, "bytes of configuration space");
  expect(space.flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE, "its flags");
  expect(space.offset, config, "its offset");
  for (const std::uint32_t absent : {VFIO_PCI_BAR1_REGION_INDEX, VFIO_PCI_BAR5_REGION_INDEX, VFIO_PCI_ROM_REGION_INDEX}) {
    expect(o.region(absent).size, 0, "bytes of a region that is not there");
    expect(o.region(absent).flags, 0, "its flags");
  }
  o.region(VFIO_PCI_VGA_REGION_INDEX, -EINVAL);
  o.region(VFIO_PCI_NUM_REGIONS, -EINVAL);
}

void region_argsz(bench& b) {
  const opened o(b);
  vfio_region_info told{};
  told.argsz = sizeof(told) - 1;
  expect(b.kernel.ioctl(o.device.get(), VFIO_DEVICE_GET_REGION_INFO, &told), -EINVAL, "GET_REGION_INFO");
  expect(b.kernel.ioctl(o.device.get(), VFIO_DEVICE_GET_REGION_INFO), -EFAULT, "no address");
}

/// The first region that has capabilities, asked for with room for none.
vfio_region_info capable_region(const bench& b, const kernel::handle& device) {
  for (std::uint32_t index = 0; index < VFIO_PCI_ROM_REGION_INDEX; ++index) {
    vfio_region_info told{};
    told.argsz = sizeof(told);
    told.index = index;
    const int answer = b.kernel.ioctl(device.get(), VFIO_DEVICE_GET_REGION_INFO, &told);
    if (answer == 0 && (told.flags & VFIO_REGION_INFO_FLAG_CAPS) != 0) return told;
  }
  throw failure("no region has capabilities");
}

void region_capability(bench& b) {
  const session s(b, {b.pair()});
  const auto device = b.open_device(s.groups[0], b.pair().other);
  const auto small = capable_region(b, device);
  expect(small.argsz, sizeof(small) + sizeof(vfio_info_cap_header), "argsz is raised");
  expect(small.cap_offset, 0, "cap_offset with too little room");
  std::vector<std::uint64_t> buffer(small.argsz / sizeof(std::uint64_t));
  auto* told = reinterpret_cast<vfio_region_info*>(buffer.data());
  told->argsz = small.argsz;
  told->index = small.index;
  expect(b.kernel.ioctl(device.get(), VFIO_DEVICE_GET_REGION_INFO, told), 0, "GET_REGION_INFO with just enough");
  expect(told->cap_offset, sizeof(small), "cap_offset with just enough");
  vfio_info_cap_header header{};
  std::memcpy(&header, buffer.data() + sizeof(small) / sizeof(std::uint64_t), sizeof(header));
  expect(header.id, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, "the capability");
  expect(header.version, 1, "its version");
  expect(header.next, 0, "the next");
}

void irqs(bench& b) {
  const opened o(b);
  expect(o.irq(VFIO_PCI_INTX_IRQ_INDEX).count, 1, "INTx");
  expect(o.irq(VFIO_PCI_INTX_IRQ_INDEX).flags, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
         "its flags");
  expect(o.irq(VFIO_PCI_MSI_IRQ_INDEX).count, 1, "MSI");
  expect(o.irq(VFIO_PCI_MSI_IRQ_INDEX).flags, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, "its flags");
  expect(o.irq(VFIO_PCI_MSIX_IRQ_INDEX).count, 0, "MSI-X");
  o.irq(VFIO_PCI_ERR_IRQ_INDEX, -EINVAL);
  expect(o.irq(VFIO_PCI_REQ_IRQ_INDEX).count, 1, "requests");
  o.irq(VFIO_PCI_NUM_IRQS, -EINVAL);
  vfio_irq_info told{};
  told.argsz = sizeof(told) - 1;
  expect(b.kernel.ioctl(o.device.get(), VFIO_DEVICE_GET_IRQ_INFO, &told), -EINVAL, "a short argsz");
}

// --- reading and writing ---

void config_space(bench& b) {
  const opened o(b);
  expect(o.word(config), 0x1234, "the vendor");
  expect(o.word(config + 2), 0x11e8, "the device");
  expect(o.word(command) & memory_enabled, memory_enabled, "memory is enabled by the open");
  expect(o.read(config + 252, 8), -EFAULT, "a read past the end");
  expect(o.read(config + 256, 4), -EFAULT, "a read behind the end");
  o.set_word(config, 0x5555);
  expect(o.word(config), 0x1234, "the vendor cannot be written");
}

void bar(bench& b) {
  const opened o(b);
  expect(o.read(0, 4), 4, "pread of a register");
  expect(o.read((1 << 20) - 4, 8), 4, "pread over the end");
  expect(o.read(1 << 20, 4), -EINVAL, "pread behind the end");
  expect(o.read(std::uint64_t{1} << 40, 4), -EINVAL, "pread of a BAR that is not there");
  expect(o.read(std::uint64_t{VFIO_PCI_NUM_REGIONS} << 40, 4), -EINVAL, "pread of a region there is not");
  const std::uint16_t was = o.word(command);
  o.set_word(command, static_cast<std::uint16_t>(was & ~memory_enabled));
  expect(o.read(0, 4), -EIO, "pread with memory disabled");
  o.set_word(command, was);
  expect(o.read(0, 4), 4, "pread with memory enabled");
}

void bar_keeps(bench& b) {
  constexpr std::uint64_t source_register = 0x80;
  const opened o(b);
  const std::uint32_t written = 0x12345678;
  std::uint32_t value = 0;
  expect(b.kernel.pwrite(o.device.get(), &written, sizeof(written), source_register), 4, "pwrite of a register");
  expect(b.kernel.pread(o.device.get(), &value, sizeof(value), source_register), 4, "pread of it");
  expect(value, written, "what was written");
}

void no_reset(bench& b) {
  const opened o(b);
  expect(b.kernel.ioctl(o.device.get(), VFIO_DEVICE_RESET), -EINVAL, "RESET");
}

void reset(bench& b) {
  const opened o(b);
  vfio_device_info told{};
  told.argsz = sizeof(told);
  expect(b.kernel.ioctl(o.device.get(), VFIO_DEVICE_GET_INFO, &told), 0, "GET_INFO");
  expect(told.flags, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET, "flags");
  expect(b.kernel.ioctl(o.device.get(), VFIO_DEVICE_RESET), 0, "RESET");
}

void no_features(bench& b) {
  const opened o(b);
  for (const int which : {VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
                          VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT}) {
    vfio_device_feature probe{};
    probe.argsz = sizeof(probe);
    probe.flags = VFIO_DEVICE_FEATURE_PROBE | static_cast<std::uint32_t>(which);
    expect(b.kernel.ioctl(o.device.get(), VFIO_DEVICE_FEATURE, &probe), -ENOTTY, "the probe of a feature");
  }
}

}  // namespace

std::vector<test_case> pci_cases() {
  return {
      {"pci: GET_INFO", info},
      {"pci: GET_REGION_INFO of each region", regions},
      {"pci: GET_REGION_INFO with a short argsz is EINVAL", region_argsz},
      {"pci: GET_REGION_INFO raises an argsz too small for the capabilities", region_capability},
      {"pci: GET_IRQ_INFO of each interrupt", irqs},
      {"pci: configuration space", config_space},
      {"pci: a BAR, with memory enabled and disabled", bar},
      {"pci: a BAR's register keeps what is written", bar_keeps},
      {"pci: a device that cannot be reset answers EINVAL", no_reset},
      {.name = "pci: a device that can be reset says so",
       .run = reset,
       .shape = [](kernel::model_options& options) { options.groups[2].functions["0000:00:04.0"] = {.resettable = true}; },
       .model_only = "no device of the guest can be reset"},
      {"pci: a device without features answers ENOTTY", no_features, {5, 18}},
  };
}

}  // namespace tidemark::conformance
