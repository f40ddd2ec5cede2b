/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks the test module against the words of test_device.h, on the guest's kernel. Also the shortest example of how the
 * device is used. Prints one line a check; exit status 0 when all hold. Plain C, so that it says the same whatever state the
 * project is in.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_device.h"
#include "test_stream.h"
#include "vfio_newer.h"

enum { PAGE = 4096, PAGES = 1024 };

static const uint64_t base_iova = 0x100000000;      /* PAGES pages, read and write */
static const uint64_t read_only_iova = 0x200000000; /* one page */
static const uint64_t write_only_iova = 0x300000000;
static const uint64_t unmapped_iova = 0x400000000;

static int failures;
static int checks;

__attribute__((format(printf, 2, 3))) static bool check(bool good, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs(good ? "ok   " : "FAIL ", stdout);
  vprintf(format, arguments);
  puts("");
  va_end(arguments);
  checks++;
  failures += !good;
  return good;
}

/* For what nothing can go on without. */
static void require(bool good, const char* what) {
  if (good) return;
  printf("FAIL %s: %s\n", what, strerror(errno));
  exit(1);
}

/* ---- VFIO, in short ---- */

struct device {
  int group;
  int fd;
};

static int container;
static uint8_t* memory;

static int open_group(const char* name) {
  char path[128], link[128], group[160];
  snprintf(path, sizeof path, "/sys/bus/platform/devices/%s/iommu_group", name);
  ssize_t length = readlink(path, link, sizeof link - 1);
  require(length > 0, path);
  link[length] = 0;
  snprintf(group, sizeof group, "/dev/vfio/%s", strrchr(link, '/') + 1);
  int fd = open(group, O_RDWR);
  require(fd >= 0, group);
  return fd;
}

static void check_group(struct device* device, const char* name) {
  struct vfio_group_status status = {.argsz = sizeof status};
  device->group = open_group(name);
  require(ioctl(device->group, VFIO_GROUP_GET_STATUS, &status) == 0, "VFIO_GROUP_GET_STATUS");
  check(status.flags & VFIO_GROUP_FLAGS_VIABLE, "%s: the group is viable", name);
  require(ioctl(device->group, VFIO_GROUP_SET_CONTAINER, &container) == 0, "VFIO_GROUP_SET_CONTAINER");
}

static int open_device(const struct device* device, const char* name) {
  int fd = ioctl(device->group, VFIO_GROUP_GET_DEVICE_FD, name);
  require(fd >= 0, "VFIO_GROUP_GET_DEVICE_FD");
  return fd;
}

static void map(void* where, uint64_t iova, uint64_t size, uint32_t flags) {
  struct vfio_iommu_type1_dma_map request = {
      .argsz = sizeof request, .flags = flags, .vaddr = (uintptr_t)where, .iova = iova, .size = size};
  require(ioctl(container, VFIO_IOMMU_MAP_DMA, &request) == 0, "VFIO_IOMMU_MAP_DMA");
}

static int container_tracking(uint32_t flag) {
  struct vfio_iommu_type1_dirty_bitmap request = {.argsz = sizeof request, .flags = flag};
  return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &request);
}

/* Both kinds of report fill this. */
static uint64_t bitmap[PAGES / 64];

static int container_dirty(void) {
  struct {
    struct vfio_iommu_type1_dirty_bitmap head;
    struct vfio_iommu_type1_dirty_bitmap_get get;
  } request = {.head = {.argsz = sizeof request, .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP},
               .get = {.iova = base_iova,
                       .size = PAGES * PAGE,
                       .bitmap = {.pgsize = PAGE, .size = sizeof bitmap, .data = (void*)bitmap}}};
  memset(bitmap, 0, sizeof bitmap);
  return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &request);
}

static int feature(int fd, uint32_t flags, const void* data, size_t size, void* answer) {
  uint64_t buffer[16] = {0};
  struct vfio_device_feature* request = (struct vfio_device_feature*)buffer;
  request->argsz = sizeof *request + size;
  request->flags = flags;
  if (data) memcpy(request->data, data, size);
  int result = ioctl(fd, VFIO_DEVICE_FEATURE, request);
  if (answer) memcpy(answer, request->data, size);
  return result;
}

static int log_start(int fd, uint64_t* page_size, const struct vfio_device_feature_dma_logging_range* ranges,
                     uint32_t count) {
  struct vfio_device_feature_dma_logging_control control = {
      .page_size = *page_size, .num_ranges = count, .ranges = (uintptr_t)ranges};
  int result =
      feature(fd, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &control, sizeof control, &control);
  *page_size = control.page_size;
  return result;
}

static int log_stop(int fd) {
  return feature(fd, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0, NULL);
}

static int log_report_at(int fd, uint64_t iova, uint64_t length) {
  struct vfio_device_feature_dma_logging_report report = {
      .iova = iova, .length = length, .page_size = PAGE, .bitmap = (uintptr_t)bitmap};
  memset(bitmap, 0, sizeof bitmap);
  return feature(fd, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &report, sizeof report, NULL);
}

static int log_report(int fd) { return log_report_at(fd, base_iova, PAGES * PAGE); }

/* Returns the data fd, -1 where the state has none, -errno on failure. */
static int set_state(int fd, uint32_t state) {
  struct vfio_device_feature_mig_state request = {.device_state = state, .data_fd = -1};
  if (feature(fd, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &request, sizeof request, &request) != 0)
    return -errno;
  return request.data_fd;
}

static uint32_t get_state(int fd) {
  struct vfio_device_feature_mig_state request = {0};
  require(
      feature(fd, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &request, sizeof request, &request) == 0,
      "GET MIG_DEVICE_STATE");
  return request.device_state;
}

/* ---- helpers of the checks ---- */

static bool dirty_exactly(const unsigned* pages, size_t count) {
  uint64_t expected[PAGES / 64] = {0};
  for (size_t i = 0; i < count; i++) expected[pages[i] / 64] |= 1ULL << pages[i] % 64;
  return memcmp(bitmap, expected, sizeof bitmap) == 0;
}

/* 0, or the errno. */
static int ring(int fd, uint64_t iova, uint64_t length, uint64_t value) {
  struct tidemark_test_doorbell bell = {iova, length, value};
  return write(fd, &bell, sizeof bell) == sizeof bell ? 0 : errno;
}

static bool counts(int fd, uint64_t doorbells, uint64_t bytes) {
  struct tidemark_test_state state;
  require(read(fd, &state, sizeof state) == sizeof state, "read of the state");
  return state.doorbells == doorbells && state.bytes == bytes;
}

static void check_errno(int got, int expected, const char* what) {
  check(got == expected, "%s: %s", what, got ? strerrorname_np(got) : "success");
}

/* ---- the checks ---- */

static void check_info(int fd) {
  struct vfio_device_info info = {.argsz = sizeof info};
  int result = ioctl(fd, VFIO_DEVICE_GET_INFO, &info);
  check(result == 0 && info.flags == VFIO_DEVICE_FLAGS_RESET && info.num_regions == 0 && info.num_irqs == 0,
        "device info: can be reset, no regions, no irqs");
  struct vfio_region_info region = {.argsz = sizeof region};
  check_errno(ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &region) ? errno : 0, EINVAL, "asking for a region");
}

static void check_doorbells(int fd) {
  memset(memory, 0xee, PAGES * PAGE);
  check_errno(ring(fd, base_iova + 3 * PAGE + 5, 16, 0x0807060504030201), 0, "a doorbell at an odd address");
  static const uint8_t written[18] = {0xee, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0xee};
  check(memcmp(memory + 3 * PAGE + 4, written, sizeof written) == 0, "its bytes are in memory, lowest first, and no others");
  check_errno(ring(fd, base_iova + PAGE - 4, PAGE + 8, 0x0807060504030201), 0, "a doorbell over three pages");
  static const uint8_t end[9] = {1, 2, 3, 4, 5, 6, 7, 8, 0xee};
  check(memcmp(memory + 2 * PAGE - 4, end, 8) == 0 && memcmp(memory + 2 * PAGE - 4, end, sizeof end) == 0,
        "the value keeps its phase from page to page");
  check(counts(fd, 2, 16 + PAGE + 8), "the state counts two doorbells and their bytes");
}

static void check_refusals(int fd) {
  struct tidemark_test_doorbell bell = {base_iova, 8, 1};
  check_errno(write(fd, &bell, sizeof bell - 1) < 0 ? errno : 0, EINVAL, "a piece of a doorbell");
  check_errno(write(fd, &bell, 0) < 0 ? errno : 0, EINVAL, "no doorbell");
  check_errno(ring(fd, base_iova, 0, 1), EINVAL, "length 0");
  check_errno(ring(fd, base_iova, 12, 1), EINVAL, "length 12");
  check_errno(ring(fd, base_iova, TIDEMARK_TEST_DOORBELL_BYTES_MAX + 8, 1), EINVAL, "length above the maximum");
  check_errno(ring(fd, base_iova, TIDEMARK_TEST_DOORBELL_BYTES_MAX, 1), 0, "length at the maximum");
  check_errno(ring(fd, UINT64_MAX - 7, 16, 1), EINVAL, "a range past 2^64");
  check_errno(ring(fd, unmapped_iova, 8, 1), EINVAL, "an unmapped iova");
  check_errno(ring(fd, read_only_iova, 8, 1), EPERM, "a read-only mapping");
  check_errno(ring(fd, write_only_iova, 8, 1), EPERM, "a write-only mapping");
  char byte;
  check_errno(read(fd, &byte, 1) < 0 ? errno : 0, EINVAL, "a read shorter than the state");
}

static void check_partial(int fd) {
  struct tidemark_test_doorbell bells[3] = {{base_iova, 8, 1}, {unmapped_iova, 8, 1}, {base_iova, 8, 2}};
  check(write(fd, bells, sizeof bells) == sizeof bells[0], "a failing second doorbell: the bytes of the first");
  memset(memory, 0, PAGES * PAGE);
  check_errno(ring(fd, base_iova + (PAGES - 1) * PAGE, 2 * PAGE, 1), EINVAL, "a doorbell that runs off the mapping");
  check(memory[(PAGES - 1) * PAGE] == 1, "it has written the page before the end");
}

static void check_other_process(int fd) {
  fflush(stdout);
  pid_t child = fork();
  require(child >= 0, "fork");
  if (child == 0) _exit(ring(fd, base_iova, 8, 1) == EFAULT ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  check(status == 0, "a doorbell of another process: EFAULT");
}

static void check_container_tracking(int fd) {
  static const unsigned pages[] = {0, 7, 8, 640, PAGES - 1};
  require(container_tracking(VFIO_IOMMU_DIRTY_PAGES_FLAG_START) == 0, "VFIO_IOMMU_DIRTY_PAGES START");
  check(container_dirty() == 0 && dirty_exactly(NULL, 0), "container bitmap: clean after START");
  ring(fd, base_iova, 8, 1);
  ring(fd, base_iova + 8 * PAGE - 8, 16, 1);
  ring(fd, base_iova + 640 * PAGE, PAGE, 1);
  ring(fd, base_iova + (PAGES - 1) * PAGE, 8, 1);
  check(container_dirty() == 0 && dirty_exactly(pages, 5), "container bitmap: exactly the pages written");
  check(container_dirty() == 0 && dirty_exactly(NULL, 0), "container bitmap: a second query is clean");
  ring(fd, base_iova + (PAGES - 1) * PAGE, 2 * PAGE, 1);
  check(container_dirty() == 0 && dirty_exactly(pages + 4, 1), "container bitmap: the written part of a failed doorbell");
  require(container_tracking(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP) == 0, "VFIO_IOMMU_DIRTY_PAGES STOP");
}

/* A log of an unmapped or read-only place stays empty: nothing was written there. */
static void check_failed_writes_unlogged(int fd) {
  struct vfio_device_feature_dma_logging_range ranges[2] = {{read_only_iova, PAGE}, {unmapped_iova, PAGE}};
  uint64_t page_size = PAGE;
  require(log_start(fd, &page_size, ranges, 2) == 0, "DMA_LOGGING_START");
  ring(fd, read_only_iova, 8, 1);
  ring(fd, unmapped_iova, 8, 1);
  bool clean = log_report_at(fd, read_only_iova, PAGE) == 0 && dirty_exactly(NULL, 0);
  check(clean && log_report_at(fd, unmapped_iova, PAGE) == 0 && dirty_exactly(NULL, 0),
        "DMA logging: a refused write is not logged");
  require(log_stop(fd) == 0, "DMA_LOGGING_STOP");
}

/* Logs pages 0 to 15 and 512 to 527. */
static void start_log(int fd) {
  struct vfio_device_feature_dma_logging_range ranges[2] = {{base_iova, 16 * PAGE}, {base_iova + 512 * PAGE, 16 * PAGE}};
  uint64_t page_size = 2 << 20;
  struct vfio_device_feature_dma_logging_range wide = {base_iova, 2 << 20};
  check(log_start(fd, &page_size, &wide, 1) == 0 && page_size == PAGE,
        "DMA logging: START with 2 MiB pages gives 4 KiB pages");
  require(log_stop(fd) == 0, "DMA_LOGGING_STOP");
  page_size = PAGE;
  require(log_start(fd, &page_size, ranges, 2) == 0, "DMA_LOGGING_START");
  check_errno(log_start(fd, &page_size, ranges, 2) ? errno : 0, EINVAL, "DMA logging: a second START");
}

static void check_logging(int fd) {
  static const unsigned pages[] = {2, 15, 513};
  check_errno(log_report(fd) ? errno : 0, EINVAL, "DMA logging: REPORT before START");
  check_errno(log_stop(fd) ? errno : 0, 0, "DMA logging: STOP before START");
  start_log(fd);
  ring(fd, base_iova + 2 * PAGE, 8, 1);
  ring(fd, base_iova + 15 * PAGE, 3 * PAGE, 1);
  ring(fd, base_iova + 511 * PAGE, 3 * PAGE, 1);
  ring(fd, base_iova + 600 * PAGE, 8, 1);
  check(log_report_at(fd, base_iova + 512 * PAGE, PAGE) == 0 && bitmap[0] == 1, "DMA logging: REPORT of one page");
  check(log_report(fd) == 0 && dirty_exactly(pages, 3),
        "DMA logging: only pages inside the ranges, reported ones forgotten");
  check(log_report(fd) == 0 && dirty_exactly(NULL, 0), "DMA logging: a second REPORT is clean");
  check_errno(log_report_at(fd, base_iova + 8, PAGE) ? errno : 0, EINVAL, "DMA logging: REPORT off a page's edge");
  ring(fd, base_iova + pages[0] * PAGE, 8, 1);
  check(log_report(fd) == 0 && dirty_exactly(pages, 1), "DMA logging: a page written again is reported again");
  require(log_stop(fd) == 0, "DMA_LOGGING_STOP");
  check_errno(log_report(fd) ? errno : 0, EINVAL, "DMA logging: REPORT after STOP");
}

static void check_support(int fd) {
  struct vfio_device_feature_migration migration = {0};
  int result =
      feature(fd, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, &migration, sizeof migration, &migration);
  check(result == 0 && migration.flags == (VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY),
        "migration: STOP_COPY, P2P and PRE_COPY");
  check(get_state(fd) == VFIO_DEVICE_STATE_RUNNING, "migration: RUNNING at first");
}

/* The whole stream of a device with the usual ballast that was not used during pre-copy. */
enum {
  STREAM = 3 * sizeof(struct tidemark_test_section) + TIDEMARK_TEST_BALLAST_BYTES + sizeof(struct tidemark_test_state)
};

static void read_data(int fd, uint8_t* data) {
  bool whole = read(fd, data, 5) == 5 && read(fd, data + 5, STREAM - 5) == STREAM - 5;
  check(whole && read(fd, &(char){0}, 1) == 0, "migration: the data comes in pieces, then ends");
  struct tidemark_test_loading taken = {.ballast = TIDEMARK_TEST_BALLAST_BYTES};
  tidemark_test_load(&taken, data, STREAM);
  check(tidemark_test_loaded(&taken) && taken.state.doorbells == 2, "migration: the data is the device's state");
}

static void check_pre_copy(int fd) {
  uint8_t piece[STREAM];
  require(ioctl(fd, VFIO_DEVICE_RESET) == 0, "VFIO_DEVICE_RESET");
  int save = set_state(fd, VFIO_DEVICE_STATE_PRE_COPY);
  struct vfio_precopy_info info = {.argsz = sizeof info};
  check(save >= 0 && ioctl(save, VFIO_MIG_GET_PRECOPY_INFO, &info) == 0 &&
            info.initial_bytes > TIDEMARK_TEST_BALLAST_BYTES && info.dirty_bytes == 0,
        "pre-copy: the data fd tells what there is");
  while (read(save, piece, sizeof piece) > 0) continue;
  check(errno == ENOMSG, "pre-copy: ENOMSG when nothing is new");
  check_errno(ring(fd, base_iova, 8, 1), 0, "pre-copy: a doorbell");
  check(ioctl(save, VFIO_MIG_GET_PRECOPY_INFO, &info) == 0 && info.initial_bytes == 0 && info.dirty_bytes > 0,
        "pre-copy: and then there is more");
  check(set_state(fd, VFIO_DEVICE_STATE_PRE_COPY_P2P) == -1, "pre-copy: PRE_COPY_P2P opens no other data fd");
  check_errno(ring(fd, base_iova, 8, 1), EBUSY, "pre-copy: a doorbell in PRE_COPY_P2P");
  check(set_state(fd, VFIO_DEVICE_STATE_STOP_COPY) == -1, "pre-copy: nor does STOP_COPY");
  while (read(save, piece, sizeof piece) > 0) continue;
  check(read(save, piece, 1) == 0, "pre-copy: in STOP_COPY the data ends");
  check_errno(-set_state(fd, VFIO_DEVICE_STATE_PRE_COPY), EINVAL, "pre-copy: not from STOP_COPY");
  close(save);
}

/* The parameter counts from the next reset on. */
static void check_ballast(int fd) {
  uint8_t piece[4096];
  size_t bytes = 0;
  check(system("echo 1000000 >/sys/module/tidemark_test/parameters/ballast") == 0, "ballast: can be set");
  require(ioctl(fd, VFIO_DEVICE_RESET) == 0, "VFIO_DEVICE_RESET");
  struct vfio_device_feature_mig_data_size size = {0};
  feature(fd, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, &size, sizeof size, &size);
  int save = set_state(fd, VFIO_DEVICE_STATE_STOP_COPY);
  for (ssize_t got; (got = read(save, piece, sizeof piece)) > 0;) bytes += (size_t)got;
  check(bytes > 1000000 && bytes == size.stop_copy_length, "ballast: the data is as long as MIG_DATA_SIZE says");
  close(save);
  require(system("echo 256 >/sys/module/tidemark_test/parameters/ballast") == 0, "ballast");
  require(ioctl(fd, VFIO_DEVICE_RESET) == 0, "VFIO_DEVICE_RESET");
}

static void check_save(int fd, uint8_t* data) {
  require(ioctl(fd, VFIO_DEVICE_RESET) == 0, "VFIO_DEVICE_RESET");
  check(counts(fd, 0, 0), "reset: the state is zero");
  ring(fd, base_iova, 64, 1);
  ring(fd, base_iova, 128, 1);
  check(set_state(fd, VFIO_DEVICE_STATE_RUNNING_P2P) == -1, "migration: RUNNING to RUNNING_P2P");
  check_errno(ring(fd, base_iova, 8, 1), EBUSY, "migration: a doorbell in RUNNING_P2P");
  check(set_state(fd, VFIO_DEVICE_STATE_STOP) == -1, "migration: RUNNING_P2P to STOP");
  check_errno(ring(fd, base_iova, 8, 1), EBUSY, "migration: a doorbell in STOP");
  int save = set_state(fd, VFIO_DEVICE_STATE_STOP_COPY);
  check(save >= 0 && get_state(fd) == VFIO_DEVICE_STATE_STOP_COPY, "migration: STOP to STOP_COPY opens a data fd");
  check_errno(ring(fd, base_iova, 8, 1), EBUSY, "migration: a doorbell in STOP_COPY");
  read_data(save, data);
  check(set_state(fd, VFIO_DEVICE_STATE_RUNNING) == -1, "migration: back to RUNNING");
  check_errno(read(save, &(char){0}, 1) < 0 ? errno : 0, ENODEV, "migration: a read after STOP_COPY");
  close(save);
}

static void check_bad_resume(int fd, const uint8_t* data) {
  uint8_t wrong[STREAM];
  memcpy(wrong, data, STREAM);
  int load = set_state(fd, VFIO_DEVICE_STATE_RESUMING);
  check(load >= 0, "resume: RUNNING to RESUMING opens a data fd");
  check_errno(ring(fd, base_iova, 8, 1), EBUSY, "resume: a doorbell in RESUMING");
  check(write(load, data, STREAM - 1) == STREAM - 1, "resume: takes a part");
  check_errno(-set_state(fd, VFIO_DEVICE_STATE_STOP), EINVAL, "resume: STOP with incomplete data");
  check(get_state(fd) == VFIO_DEVICE_STATE_RESUMING, "resume: still in RESUMING");
  require(ioctl(fd, VFIO_DEVICE_RESET) == 0, "VFIO_DEVICE_RESET");
  check(get_state(fd) == VFIO_DEVICE_STATE_RUNNING && counts(fd, 0, 0), "resume: RESET recovers");
  check_errno(write(load, data, 1) < 0 ? errno : 0, ENODEV, "resume: a write after the reset");
  close(load);
  wrong[0]++;
  load = set_state(fd, VFIO_DEVICE_STATE_RESUMING);
  check(write(load, wrong, STREAM) == STREAM, "resume: takes any bytes");
  check_errno(-set_state(fd, VFIO_DEVICE_STATE_STOP), EINVAL, "resume: STOP with a wrong magic");
  require(ioctl(fd, VFIO_DEVICE_RESET) == 0, "VFIO_DEVICE_RESET");
  close(load);
}

static void check_resume(int fd, const uint8_t* bytes) {
  int load = set_state(fd, VFIO_DEVICE_STATE_RESUMING);
  bool whole = write(load, bytes, 7) == 7 && write(load, bytes + 7, STREAM - 7) == STREAM - 7;
  check(whole, "resume: the data goes in in pieces");
  check_errno(write(load, bytes, 1) < 0 ? errno : 0, ENOSPC, "resume: a byte too many");
  check(set_state(fd, VFIO_DEVICE_STATE_STOP) == -1, "resume: RESUMING to STOP");
  check(set_state(fd, VFIO_DEVICE_STATE_RUNNING) == -1 && get_state(fd) == VFIO_DEVICE_STATE_RUNNING,
        "resume: STOP to RUNNING");
  check_errno(ring(fd, base_iova, 8, 1), 0, "resume: a doorbell");
  check(counts(fd, 3, 64 + 128 + 8), "resume: the counters go on where the source's were");
  close(load);
}

/* A data fd may outlive its device fd. */
static void check_close(struct device* device, const char* name) {
  int save = set_state(device->fd, VFIO_DEVICE_STATE_STOP_COPY);
  close(device->fd);
  check_errno(read(save, &(char){0}, 1) < 0 ? errno : 0, ENODEV, "a data fd after the device was closed");
  close(save);
  device->fd = open_device(device, name);
  check(get_state(device->fd) == VFIO_DEVICE_STATE_RUNNING && counts(device->fd, 0, 0), "opened anew: RUNNING, state zero");
}

static void set_up_memory(void) {
  memory = mmap(NULL, (PAGES + 2) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(memory != MAP_FAILED, "mmap");
  map(memory, base_iova, PAGES * PAGE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
  map(memory + PAGES * PAGE, read_only_iova, PAGE, VFIO_DMA_MAP_FLAG_READ);
  map(memory + (PAGES + 1) * PAGE, write_only_iova, PAGE, VFIO_DMA_MAP_FLAG_WRITE);
}

static void set_up(struct device* source, struct device* destination) {
  container = open("/dev/vfio/vfio", O_RDWR);
  require(container >= 0, "/dev/vfio/vfio");
  check_group(source, "tidemark-test.0");
  check_group(destination, "tidemark-test.1");
  check(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0, "a type1v2 container takes both groups");
  set_up_memory();
  source->fd = open_device(source, "tidemark-test.0");
  destination->fd = open_device(destination, "tidemark-test.1");
}

static void tear_down(const struct device* source, const struct device* destination) {
  check(system("rmmod tidemark_test 2>/dev/null") != 0, "the module does not unload while a device is open");
  close(source->fd);
  close(destination->fd);
  close(source->group);
  close(destination->group);
  close(container);
}

static void check_unload(void) {
  check(system("rmmod tidemark_test") == 0, "the module unloads");
  check(access("/sys/bus/platform/devices/tidemark-test.0", F_OK) != 0, "its devices are gone");
}

/* The kernel's log from its beginning: each read is one record. */
static void check_kernel_log(void) {
  static const char* const bad[] = {"WARNING:", "BUG:", "Oops", "general protection", "refcount_t", "INFO: task"};
  char record[8192];
  int found = 0;
  int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
  require(log >= 0, "/dev/kmsg");
  for (ssize_t length; (length = read(log, record, sizeof record - 1)) > 0 || errno == EPIPE;) {
    record[length > 0 ? length : 0] = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
      if (strstr(record, bad[i])) found += printf("     %s", record) > 0;
  }
  close(log);
  check(found == 0, "the kernel's log has no complaint");
}

int main(void) {
  struct device source, destination;
  uint8_t data[STREAM];
  set_up(&source, &destination);
  check_info(source.fd);
  check_doorbells(source.fd);
  check_refusals(source.fd);
  check_partial(source.fd);
  check_other_process(source.fd);
  check_container_tracking(source.fd);
  check_logging(source.fd);
  check_failed_writes_unlogged(source.fd);
  check_support(source.fd);
  check_save(source.fd, data);
  check_bad_resume(destination.fd, data);
  check_resume(destination.fd, data);
  check_pre_copy(source.fd);
  check_ballast(source.fd);
  check_close(&source, "tidemark-test.0");
  tear_down(&source, &destination);
  check_unload();
  check_kernel_log();
  printf("%d checks, %d failed\n", checks, failures);
  return failures ? 1 : 0;
}
