// SPDX-License-Identifier: Apache-2.0
//
// VFIO_DEVICE_FEATURE in general, and a test device's migration: its states, the arcs between them, its data files.
//
// covers R32 R34

#include <algorithm>
#include <array>
#include <cerrno>

#include "conformance/feature.hpp"
#include "kernel/test_device.h"
#include "kernel/test_stream.h"
#include "kernel/vfio_newer.h"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t migration = VFIO_DEVICE_FEATURE_MIGRATION;
constexpr std::uint32_t device_state = VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
constexpr std::uint32_t data_size = VFIO_DEVICE_FEATURE_MIG_DATA_SIZE;

constexpr long long head_bytes = sizeof(tidemark_test_section);
constexpr long long state_bytes = head_bytes + sizeof(tidemark_test_state);
constexpr long long initial_bytes = head_bytes + TIDEMARK_TEST_BALLAST_BYTES + state_bytes;
constexpr long long stream_bytes = initial_bytes + head_bytes;

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
  /// All that is there now goes to `said`; the answer after it.
  long long read_all() {
    for (;;) {
      std::array<std::byte, 100> buffer;
      const long long told = s.on.kernel.read(data.get(), buffer.data(), buffer.size());
      if (told <= 0) return told;
      said.insert(said.end(), buffer.begin(), buffer.begin() + told);
    }
  }
  int precopy_info(vfio_precopy_info& info) const { return s.on.kernel.ioctl(data.get(), VFIO_MIG_GET_PRECOPY_INFO, &info); }
  void expect_left(long long initial, long long dirty) const {
    vfio_precopy_info info{};
    info.argsz = sizeof(info);
    expect(precopy_info(info), 0, "VFIO_MIG_GET_PRECOPY_INFO");
    expect(info.initial_bytes, initial, "initial_bytes");
    expect(info.dirty_bytes, dirty, "dirty_bytes");
  }
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
  std::vector<std::byte> said;
};

using bytes = std::vector<std::byte>;

/// What a device that rang so often gives in STOP_COPY.
bytes saved(std::uint64_t doorbells) {
  tidemark_test_saving stream{};
  stream.ballast = TIDEMARK_TEST_BALLAST_BYTES;
  stream.now = {.doorbells = doorbells, .bytes = 8 * doorbells};
  stream.stopped = 1;
  bytes all(stream_bytes);
  tidemark_test_save(&stream, reinterpret_cast<__u8*>(all.data()), all.size());
  return all;
}

/// The doorbells that a whole stream says; -1: it is none.
long long doorbells_in(const bytes& stream) {
  tidemark_test_loading taken{};
  taken.ballast = TIDEMARK_TEST_BALLAST_BYTES;
  tidemark_test_load(&taken, reinterpret_cast<const __u8*>(stream.data()), stream.size());
  return tidemark_test_loaded(&taken) != 0 ? static_cast<long long>(taken.state.doorbells) : -1;
}

bool is_saving(std::uint32_t state) {
  return state == VFIO_DEVICE_STATE_STOP_COPY || state == VFIO_DEVICE_STATE_PRE_COPY ||
         state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
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
  expect(told.flags, VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY, "flags");
}

void unable(bench& b) {
  const movable m(b);
  expect(feature(b, m.device, feature_probe | migration), -ENOTTY, "PROBE of MIGRATION");
  expect(feature(b, m.device, feature_probe | device_state), -ENOTTY, "PROBE of MIG_DEVICE_STATE");
  expect(feature(b, m.device, feature_probe | data_size), -ENOTTY, "PROBE of MIG_DATA_SIZE");
}

void sizes(bench& b) {
  const movable m(b);
  vfio_device_feature_mig_data_size told{};
  expect(feature(b, m.device, feature_probe | feature_get | data_size), 0, "PROBE of GET");
  expect(feature(b, m.device, feature_set | data_size, told), -EINVAL, "SET, which there is not");
  expect(feature(b, m.device, feature_get | data_size, told, 8), -EINVAL, "an argsz without the data");
  expect(feature(b, m.device, feature_get | data_size, told), 0, "GET");
  expect(told.stop_copy_length, stream_bytes, "stop_copy_length");
}

void without_p2p(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_RUNNING_P2P), -EINVAL, "SET of RUNNING_P2P");
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), 0, "SET of RUNNING");
}

constexpr std::uint32_t without_p2p_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY;
constexpr std::uint32_t without_pre_copy_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P;

void pre_copies_without_p2p(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY_P2P), -EINVAL, "SET of PRE_COPY_P2P");
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY), 0, "SET of PRE_COPY");
  auto data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
  m.data = std::move(data_file);
  expect(m.read_all(), 0, "read of it all, and at the end");
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), 0, "SET of RUNNING");
}

void without_pre_copy(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY), -EINVAL, "SET of PRE_COPY");
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY_P2P), -EINVAL, "SET of PRE_COPY_P2P");
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
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
  for (const std::uint32_t state : {0U, 8U, 99U}) expect(m.go(state), -EINVAL, "SET of a state that cannot be asked for");
  expect(m.state(), VFIO_DEVICE_STATE_RUNNING, "the state");
}

void every_way(bench& b) {
  for (std::uint32_t from = VFIO_DEVICE_STATE_STOP; from <= VFIO_DEVICE_STATE_PRE_COPY_P2P; ++from) {
    for (std::uint32_t to = VFIO_DEVICE_STATE_STOP; to <= VFIO_DEVICE_STATE_PRE_COPY_P2P; ++to) {
      if (from == VFIO_DEVICE_STATE_RESUMING && from != to) continue;  // nothing was written: it cannot be left
      movable m(b);
      expect(m.go(from), 0, "SET of the first");
      const bool back = from == VFIO_DEVICE_STATE_STOP_COPY && is_saving(to) && from != to;
      expect(m.go(to), back ? -EINVAL : 0, "SET of the second");
      expect(m.state(), back ? from : to, "the state");
      const bool opens = from != to && (to == VFIO_DEVICE_STATE_RESUMING || (is_saving(to) && !is_saving(from)));
      expect(m.data ? 1 : 0, opens ? 1 : 0, "a data file");
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
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY_P2P), -EINVAL, "SET of PRE_COPY_P2P from STOP_COPY");
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), 0, "SET of RUNNING");
  expect(m.ring_bell(), 0, "a doorbell");
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY), 0, "SET of PRE_COPY");
  expect(m.ring_bell(), 0, "a doorbell");
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY_P2P), 0, "SET of PRE_COPY_P2P");
  expect(m.ring_bell(), -EBUSY, "a doorbell");
}

// --- data ---

void saves(bench& b) {
  movable m(b);
  expect(m.ring_bell(), 0, "a doorbell");
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
  vfio_precopy_info info{};
  info.argsz = sizeof(info);
  expect(m.precopy_info(info), -EINVAL, "VFIO_MIG_GET_PRECOPY_INFO");
  expect(m.read(stream_bytes - 4), stream_bytes - 4, "read of most of it");
  expect(m.read(64), 4, "read of the rest");
  expect(m.read(64), 0, "read at the end");
  std::uint64_t word = 0;
  expect(m.write(&word, 8), -EBADF, "write");
  expect(b.kernel.pread(m.data.get(), &word, 8, 0), -ESPIPE, "pread");
  auto data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_STOP), 0, "SET of STOP");
  expect(b.kernel.read(data_file.get(), &word, 8), -ENODEV, "read when the state is left");
}

void saves_what_it_is(bench& b) {
  movable m(b);
  for (int i = 0; i < 3; ++i) expect(m.ring_bell(), 0, "a doorbell");
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
  expect(m.read_all(), 0, "read of it all, and at the end");
  expect(m.said.size(), stream_bytes, "its bytes");
  expect_true(m.said == saved(3), "they are the device's state");
}

void resumes(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_RESUMING), 0, "SET of RESUMING");
  const auto data = saved(41);
  vfio_precopy_info info{};
  info.argsz = sizeof(info);
  expect(m.precopy_info(info), -ENOTTY, "VFIO_MIG_GET_PRECOPY_INFO");
  expect(m.read(8), -EBADF, "read");
  expect(m.write(data.data(), 10), 10, "write of a part");
  auto rest = bytes(data.begin() + 10, data.end());
  rest.push_back(std::byte{1});
  expect(m.write(rest.data(), rest.size()), stream_bytes - 10, "write of the rest and a byte");
  expect(m.write(data.data(), 1), -ENOSPC, "write of more");
  auto data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), 0, "SET of RUNNING");
  expect(b.kernel.write(data_file.get(), data.data(), 1), -ENODEV, "write when the state is left");
  expect(m.doorbells(), 41, "doorbells");
  expect(m.ring_bell(), 0, "a doorbell");
  expect(m.doorbells(), 42, "doorbells go on from there");
}

/// RESUMING is not left with this, and only a reset helps.
void refuses(const bench& b, const bytes& data, const std::string& which) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_RESUMING), 0, "SET of RESUMING");
  auto data_file = std::move(m.data);
  if (!data.empty()) expect(b.kernel.write(data_file.get(), data.data(), data.size()), data.size(), "write: " + which);
  expect(m.go(VFIO_DEVICE_STATE_STOP), -EINVAL, "SET of STOP: " + which);
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), -EINVAL, "SET of RUNNING: " + which);
  expect(m.state(), VFIO_DEVICE_STATE_RESUMING, "the state");
  expect(b.kernel.ioctl(m.device.get(), VFIO_DEVICE_RESET), 0, "RESET");
  expect(m.state(), VFIO_DEVICE_STATE_RUNNING, "the state after it");
  const std::byte one{};
  expect(b.kernel.write(data_file.get(), &one, 1), -ENODEV, "write after it");
}

void resumes_badly(bench& b) {
  const bytes whole = saved(1);
  refuses(b, {}, "nothing");
  refuses(b, bytes(whole.begin(), whole.end() - 1), "all but a byte");
  refuses(b, bytes(whole.begin(), whole.end() - head_bytes), "no END");
  refuses(b, bytes(whole.end() - state_bytes - head_bytes, whole.end()), "no ballast");
  bytes stateless(whole.begin(), whole.end() - state_bytes - head_bytes);
  stateless.insert(stateless.end(), whole.end() - head_bytes, whole.end());
  refuses(b, stateless, "no STATE");
  for (const std::size_t at : {0U, 8U, 12U, 16U, 200U}) {  // magic, kind, length, ballast
    bytes wrong = whole;
    wrong[at] ^= std::byte{1};
    refuses(b, wrong, "a flipped bit in byte " + std::to_string(at));
  }
}

// --- pre-copy ---

void pre_copies(bench& b) {
  movable m(b);
  expect(m.ring_bell(), 0, "a doorbell");
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY), 0, "SET of PRE_COPY");
  m.expect_left(initial_bytes, 0);
  expect(m.read(100), 100, "read of a part");
  m.expect_left(initial_bytes - 100, 0);
  expect(m.read(4096), initial_bytes - 100, "read of the rest");
  m.expect_left(0, 0);
  expect(m.read(4096), -ENOMSG, "read when nothing is new");
  expect(m.read(0), 0, "read of no bytes");
  expect(m.ring_bell(), 0, "a doorbell");
  expect(m.ring_bell(), 0, "a doorbell");
  m.expect_left(0, state_bytes);
  expect(m.read(10), 10, "read of a part of what is new");
  m.expect_left(0, state_bytes - 10);
  expect(m.ring_bell(), 0, "a doorbell");
  m.expect_left(0, 2 * state_bytes - 10);
  expect(m.read(4096), 2 * state_bytes - 10, "read of the rest");
  expect(m.read(4096), -ENOMSG, "read when nothing is new");
}

void precopy_info_malformed(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY), 0, "SET of PRE_COPY");
  vfio_precopy_info info{};
  info.argsz = sizeof(info) - 1;
  expect(m.precopy_info(info), -EINVAL, "argsz too small");
  expect(b.kernel.ioctl(m.data.get(), VFIO_MIG_GET_PRECOPY_INFO), -EFAULT, "no address");
  expect(b.kernel.ioctl(m.data.get(), VFIO_DEVICE_GET_INFO, &info), -ENOTTY, "another request");
  info.argsz = sizeof(info);
  auto data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), 0, "SET of RUNNING");
  expect(b.kernel.ioctl(data_file.get(), VFIO_MIG_GET_PRECOPY_INFO, &info), -EINVAL, "when the state is left");
  expect(b.kernel.read(data_file.get(), &info, 8), -ENODEV, "read when the state is left");
}

void goes_on_to_stop_copy(bench& b) {
  movable m(b);
  expect(m.ring_bell(), 0, "a doorbell");
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY), 0, "SET of PRE_COPY");
  expect(m.read_all(), -ENOMSG, "read of it all");
  expect(m.ring_bell(), 0, "a doorbell");
  auto data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY_P2P), 0, "SET of PRE_COPY_P2P");
  expect(m.data ? 1 : 0, 0, "a data file");
  m.data = std::move(data_file);
  m.expect_left(0, state_bytes);
  expect(m.read_all(), -ENOMSG, "read of it all");
  data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY), 0, "SET of PRE_COPY");
  expect(m.ring_bell(), 0, "a doorbell");
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
  expect(m.data ? 1 : 0, 0, "a data file");
  m.data = std::move(data_file);
  vfio_precopy_info info{};
  info.argsz = sizeof(info);
  expect(m.precopy_info(info), -EINVAL, "VFIO_MIG_GET_PRECOPY_INFO");
  expect(m.read_all(), 0, "read of it all, and at the end");
  expect(m.said.size(), stream_bytes + 2 * state_bytes, "its bytes");
  expect(doorbells_in(m.said), 3, "the doorbells it says");
}

void still_since_pre_copy(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY), 0, "SET of PRE_COPY");
  auto data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY before anything was read");
  m.data = std::move(data_file);
  expect(m.read_all(), 0, "read of it all, and at the end");
  expect_true(m.said == saved(0), "it is what STOP_COPY alone gives");
}

void takes_a_pre_copy(bench& b) {
  movable m(b);
  expect(m.go(VFIO_DEVICE_STATE_PRE_COPY), 0, "SET of PRE_COPY");
  for (int i = 0; i < 5; ++i) {
    expect(m.read_all(), -ENOMSG, "read of it all");
    expect(m.ring_bell(), 0, "a doorbell");
  }
  auto data_file = std::move(m.data);
  expect(m.go(VFIO_DEVICE_STATE_STOP_COPY), 0, "SET of STOP_COPY");
  m.data = std::move(data_file);
  expect(m.read_all(), 0, "read of the rest, and at the end");
  expect(m.go(VFIO_DEVICE_STATE_RESUMING), 0, "SET of RESUMING");
  for (const std::byte& one : m.said) expect(m.write(&one, 1), 1, "write of a byte");
  take_transcript();  // hundreds of ones
  expect(m.go(VFIO_DEVICE_STATE_RUNNING), 0, "SET of RUNNING");
  expect(m.doorbells(), 5, "doorbells");
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
  expect(m.read(4096), stream_bytes, "read of it all, from the start");
}

}  // namespace

std::vector<test_case> migration_cases() {
  const std::string able = "every test device of the guest migrates";
  std::vector<test_case> cases = {
      {"feature: PROBE tells what there is", probes},
      {"feature: a malformed request is EINVAL", malformed},
      {"migration: the test device has STOP_COPY, P2P and PRE_COPY", abilities},
      {"migration: the size of a stream that begins in STOP_COPY", sizes},
      {.name = "migration: a device that does not migrate answers ENOTTY",
       .run = unable,
       .shape = [](kernel::model_options& options) { options.groups[0].migration_flags = 0; },
       .model_only = able},
      {.name = "migration: a device without P2P passes that state over",
       .run = without_p2p,
       .shape = [](kernel::model_options& options) { options.groups[0].migration_flags = VFIO_MIGRATION_STOP_COPY; },
       .model_only = able},
      {"migration: the state is what was set", states},
      {"migration: ERROR and unknown states are EINVAL", no_such_state},
      {"migration: from each state to each", every_way},
      {"migration: a device that does not run starts no DMA", stopped_is_still},
      {"migration: STOP_COPY gives a stream that ends", saves},
      {"migration: STOP_COPY gives the device's state", saves_what_it_is},
      {"migration: RESUMING takes the device's state", resumes},
      {"migration: RESUMING is not left with a wrong state", resumes_badly},
      {"pre-copy: what there is so far, then ENOMSG, then what is new", pre_copies},
      {"pre-copy: VFIO_MIG_GET_PRECOPY_INFO that is malformed, or too late", precopy_info_malformed},
      {"pre-copy: the data file goes on to STOP_COPY", goes_on_to_stop_copy},
      {"pre-copy: a device that nobody used since gives no state twice", still_since_pre_copy},
      {"pre-copy: RESUMING takes what pre-copy and STOP_COPY gave", takes_a_pre_copy},
      {.name = "pre-copy: a device without P2P goes from PRE_COPY to STOP_COPY",
       .run = pre_copies_without_p2p,
       .shape = [](kernel::model_options& options) { options.groups[0].migration_flags = without_p2p_flags; },
       .model_only = able},
      {.name = "pre-copy: a device without it has none of its states",
       .run = without_pre_copy,
       .shape = [](kernel::model_options& options) { options.groups[0].migration_flags = without_pre_copy_flags; },
       .model_only = able},
      {"migration: the last close ends the data file", last_close_ends},
      {"migration: the data file may be closed at any time", file_outlives},
  };
  for (test_case& one : cases) one.from = {5, 18};
  return cases;
}

}  // namespace tidemark::conformance
