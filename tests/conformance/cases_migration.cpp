// SPDX-License-Identifier: Apache-2.0
//
// VFIO_DEVICE_FEATURE in general, and a test device's migration: its states, the arcs between them, its data files.
//
// covers R32

#include <array>
#include <cerrno>

#include "conformance/feature.hpp"
#include "kernel/test_device.h"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t migration = VFIO_DEVICE_FEATURE_MIGRATION;
constexpr std::uint32_t device_state = VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
constexpr std::size_t data_bytes = sizeof(tidemark_test_migration_data);

/// A test device with a page mapped at IOVA 0.
struct movable {
  explicit movable(const bench& b) : s(emulated_session(b)), ram(page), device(s.device()) {
    expect(s.map(0, page, ram.address()), 0, "MAP");
  }

  /// Goes to a state; `data` becomes its file where there is one.
  int go(std::uint32_t state) {
    vfio_device_feature_mig_state request{.device_state = state, .data_fd = 99};
    const int answer = feature(s.on, device, feature_set | device_state, request);
    data = request.data_fd >= 0 && request.data_fd != 99 ? kernel::handle(s.on.kernel, request.data_fd) : kernel::handle();
    return answer;
  }
  std::uint32_t state() const {
    vfio_device_feature_mig_state request{.device_state = 77, .data_fd = 99};
    expect(feature(s.on, device, feature_get | device_state, request), 0, "GET of the state");
    expect(request.data_fd, -1, "its data_fd");
    return request.device_state;
  }
  long long read(std::size_t bytes) {
    std::vector<std::byte> buffer(bytes);
    return s.on.kernel.read(data.get(), buffer.data(), bytes);
  }
  long long write(const void* from, std::size_t bytes) const { return s.on.kernel.write(data.get(), from, bytes); }
  int ring_bell() const { return ring(s.on, device, 0, 8, 1); }
  std::uint64_t doorbells() const {
    tidemark_test_state now{};
    expect(s.on.kernel.read(device.get(), &now, sizeof(now)), sizeof(now), "read of the state");
    return now.doorbells;
  }

  session s;
  memory ram;
  kernel::handle device;
  kernel::handle data;
};

tidemark_test_migration_data saved(std::uint64_t doorbells) {
  return {.magic = TIDEMARK_TEST_MIGRATION_MAGIC, .state = {.doorbells = doorbells, .bytes = 8 * doorbells}};
}

// --- the request itself ---

void probes(bench& b) {
  const movable m(b);
  expect(feature(b, m.device, feature_probe | migration), 0, "PROBE");
  expect(feature(b, m.device, feature_probe | feature_get | migration), 0, "PROBE of GET");
  expect(feature(b, m.device, feature_probe | feature_set | migration), -EINVAL, "PROBE of SET, which there is not");
  expect(feature(b, m.device, feature_probe | feature_get | feature_set | device_state), 0, "PROBE of GET and SET");
  expect(feature(b, m.device, feature_probe | 0x3ff0), -ENOTTY, "PROBE of a feature nobody knows");
}

void malformed(bench& b) {
  const movable m(b);
  vfio_device_feature_migration told{};
  expect(feature(b, m.device, migration, told), -EINVAL, "neither GET nor SET");
  expect(feature(b, m.device, feature_get | feature_set | migration, told), -EINVAL, "GET and SET");
  expect(feature(b, m.device, feature_get | 1U << 20 | migration, told), -EINVAL, "an unknown flag");
  expect(feature(b, m.device, feature_get | migration, told, 8), -EINVAL, "an argsz without the data");
  expect(feature(b, m.device, feature_get | migration, told, 7), -EINVAL, "an argsz without the head");
  expect(b.kernel.ioctl(m.device.get(), VFIO_DEVICE_FEATURE), -EFAULT, "no address");
}

void abilities(bench& b) {
  const movable m(b);
  vfio_device_feature_migration told{};
  expect(feature(b, m.device, feature_get | migration, told), 0, "GET");
  expect(told.flags, VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P, "flags");
}

void unable(bench& b) {
  const movable m(b);
  expect(feature(b, m.device, feature_probe | migration), -ENOTTY, "PROBE of MIGRATION");
  expect(feature(b, m.device, feature_probe | device_state), -ENOTTY, "PROBE of MIG_DEVICE_STATE");
}

void without_p2p(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_RUNNING_P2P), -EINVAL, "SET of RUNNING_P2P");
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), 0, "SET of RUNNING");
}

// --- states ---

void states(bench& b) {
  movable m(b);
  expect(m.state(), VFIO_DEVICE_STATE_RUNNING, "the state at first");
  for (const std::uint32_t next : {VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING,
                                   VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_STOP}) {
    expect(m.go(next), 0, "SET");
    expect(m.data ? 1 : 0, 0, "a data file");
    expect(m.state(), next, "the state");
  }
}

void no_such_state(bench& b) {
  movable m(b);
  for (const std::uint32_t state : {0U, 6U, 7U, 8U, 99U})
    expect(m.go(state), -EINVAL, "SET of a state that cannot be asked for");
  expect(m.state(), VFIO_DEVICE_STATE_RUNNING, "the state");
}

void every_way(bench& b) {
  for (std::uint32_t from = VFIO_DEVICE_STATE_STOP; from <= VFIO_DEVICE_STATE_RUNNING_P2P; ++from) {
    for (std::uint32_t to = VFIO_DEVICE_STATE_STOP; to <= VFIO_DEVICE_STATE_RUNNING_P2P; ++to) {
      if (from == VFIO_DEVICE_STATE_RESUMING && from != to) continue;  // nothing was written: it cannot be left
      movable m(b);
      expect(m.go(from), 0, "SET of the first");
      expect(m.go(to), 0, "SET of the second");
      expect(m.state(), to, "the state");
      const bool file = from != to && (to == VFIO_DEVICE_STATE_STOP_COPY || to == VFIO_DEVICE_STATE_RESUMING);
      expect(m.data ? 1 : 0, file ? 1 : 0, "a data file");
    }
  }
}

void stopped_is_still(bench& b) {
  movable m(b);
  for (const std::uint32_t still : {VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_STOP_COPY}) {
    expect(m.go(still), 0, "SET");
    expect(m.ring_bell(), -EBUSY, "a doorbell");
    expect(ring(b, m.device, 0, 12, 1), -EINVAL, "a malformed doorbell");
  }
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), 0, "SET of RUNNING");
  expect(m.ring_bell(), 0, "a doorbell");
}

// --- data ---

void saves(bench& b) {
  movable m(b);
  expect(m.ring_bell(), 0, "a doorbell");
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
  tidemark_test_migration_data data{};
  expect(b.kernel.read(m.data.get(), &data, data_bytes - 4), data_bytes - 4, "read of most of it");
  expect(data.magic, TIDEMARK_TEST_MIGRATION_MAGIC, "the magic");
  expect(data.state.doorbells, 1, "doorbells");
  expect(m.read(64), 4, "read of the rest");
  expect(m.read(64), 0, "read at the end");
  expect(m.write(&data, 8), -EBADF, "write");
  std::uint64_t word = 0;
  expect(b.kernel.pread(m.data.get(), &word, 8, 0), -ESPIPE, "pread");
  auto data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_STOP), 0, "SET of STOP");
  expect(b.kernel.read(data_file.get(), &word, 8), -ENODEV, "read when the state is left");
}

void resumes(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_RESUMING), 0, "SET of RESUMING");
  const auto data = saved(41);
  expect(m.read(8), -EBADF, "read");
  expect(m.write(&data, 10), 10, "write of a part");
  expect(m.write(reinterpret_cast<const std::byte*>(&data) + 10, data_bytes - 10), data_bytes - 10, "write of the rest");
  expect(m.write(&data, 1), -ENOSPC, "write of more");
  auto data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), 0, "SET of RUNNING");
  expect(b.kernel.write(data_file.get(), &data, 1), -ENODEV, "write when the state is left");
  expect(m.doorbells(), 41, "doorbells");
  expect(m.ring_bell(), 0, "a doorbell");
  expect(m.doorbells(), 42, "doorbells go on from there");
}

void resumes_badly(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_RESUMING), 0, "SET of RESUMING");
  auto data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_STOP), -EINVAL, "SET of STOP with nothing written");
  expect(m.state(), VFIO_DEVICE_STATE_RESUMING, "the state");
  auto data = saved(1);
  data.magic = 1;
  expect(b.kernel.write(data_file.get(), &data, data_bytes), data_bytes, "write with a wrong magic");
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), -EINVAL, "SET of RUNNING");
  expect(m.state(), VFIO_DEVICE_STATE_RESUMING, "the state");
  expect(b.kernel.ioctl(m.device.get(), VFIO_DEVICE_RESET), 0, "RESET");
  expect(m.state(), VFIO_DEVICE_STATE_RUNNING, "the state after it");
  expect(b.kernel.write(data_file.get(), &data, 1), -ENODEV, "write after it");
}

void last_close_ends(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
  m.device.reset();
  expect(m.read(8), -ENODEV, "read after the device's close");
  m.device = m.s.device();
  expect(m.state(), VFIO_DEVICE_STATE_RUNNING, "the state after an open");
}

void file_outlives(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
  m.data.reset();
  expect(m.go(VFIO_DEVICE_STATE_STOP), 0, "SET of STOP with the data file closed");
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY again");
  expect(m.read(64), data_bytes, "read of it all, from the start");
}

}  // namespace

std::vector<test_case> migration_cases() {
  const std::string able = "every test device of the guest migrates";
  std::vector<test_case> cases = {
      {"feature: PROBE tells what there is", probes},
      {"feature: a malformed request is EINVAL", malformed},
      {"migration: the test device has STOP_COPY and P2P", abilities},
      {.name = "migration: a device that does not migrate answers ENOTTY",
       .run = unable,
       .shape = [](kernel::model_options& options) { options.groups[0].migration_flags = 0; },
       .model_only = able},
      {.name = "migration: a device without P2P passes that state over",
       .run = without_p2p,
       .shape = [](kernel::model_options& options) { options.groups[0].migration_flags = VFIO_MIGRATION_STOP_COPY; },
       .model_only = able},
      {"migration: the state is what was set", states},
      {"migration: ERROR, PRE_COPY and unknown states are EINVAL", no_such_state},
      {"migration: from each state to each", every_way},
      {"migration: a device that does not run starts no DMA", stopped_is_still},
      {"migration: STOP_COPY gives the device's state", saves},
      {"migration: RESUMING takes the device's state", resumes},
      {"migration: RESUMING is not left with a wrong state", resumes_badly},
      {"migration: the last close ends the data file", last_close_ends},
      {"migration: the data file may be closed at any time", file_outlives},
  };
  for (test_case& one : cases) one.from = {5, 18};
  return cases;
}

}  // namespace tidemark::conformance
