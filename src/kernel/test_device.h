/* SPDX-License-Identifier: (GPL-2.0 OR Apache-2.0) */
/*
 * The project's test device, as user space sees it: a VFIO device that writes where it is told to, logs what it wrote, and
 * migrates.
 *
 * Two things implement it and must answer alike: the kernel module under tests/vm/module, which runs in the test guest, and
 * the in-process model of the kernel. The bytes of the migration data both have from test_stream.h.
 *
 * Devices are platform devices named "tidemark-test.0", "tidemark-test.1", ...: that is the name to ask
 * VFIO_GROUP_GET_DEVICE_FD for. Each is alone in its group, and the group has an emulated IOMMU, so only pages that the
 * device wrote are dirty.
 *
 * VFIO_DEVICE_GET_INFO: flags VFIO_DEVICE_FLAGS_RESET, no regions, no irqs. Asking for a region or an irq is EINVAL.
 *
 * The first open and VFIO_DEVICE_RESET do the same: the state becomes zero, the migration state RUNNING, DMA logging stops,
 * and an open migration data fd answers ENODEV from then on. (The last close stops logging and ends the data fd, too.)
 *
 * Migration: VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY, with the states and arcs that Linux
 * has since 6.2, on older kernels, too. One data fd serves PRE_COPY, PRE_COPY_P2P and STOP_COPY as long as none but these
 * states is entered. It gives sections, each a struct tidemark_test_section and its bytes:
 *
 *   BALLAST  as many bytes as the device has ballast, the first section; left out where it has none. Only there to make the
 *            stream long: byte n is tidemark_test_ballast(n)
 *   STATE    a struct tidemark_test_state. The first follows the ballast; another each time the device was used since the
 * last END      no bytes; in STOP_COPY only, and then end of file
 *
 * A read takes what is there, across sections. When nothing is there it is ENOMSG before STOP_COPY.
 * VFIO_MIG_GET_PRECOPY_INFO tells what is there: initial_bytes, of the ballast and the first STATE; dirty_bytes, of further
 * ones. In STOP_COPY and later it is EINVAL. VFIO_DEVICE_FEATURE_MIG_DATA_SIZE tells the bytes of a stream that begins in
 * STOP_COPY.
 *
 * The data fd of RESUMING takes such a stream; what goes beyond END is ENOSPC (after a short count). Leaving RESUMING is
 * EINVAL, and leaves the device there, when a head was wrong, END is missing, or what was written has no STATE, or not the
 * ballast that the device has itself. A data fd answers ENODEV when its state has been left. None of this needs to come in
 * one piece.
 *
 * Ballast is set for all devices (the module's parameter `ballast`, in bytes, which can be written while it is loaded) or
 * for a group (the model's option); a device looks at it when it is reset.
 *
 * DMA logging: always in pages of 4096 bytes, whatever page size START hints (and START returns 4096). START while logging,
 * and REPORT while not logging: EINVAL. STOP while not logging: success. REPORT with iova or length not a multiple of 4096:
 * EINVAL. REPORT sets the bits of pages written inside the ranges of START since the last REPORT that covered them, and
 * forgets them.
 */
#ifndef TIDEMARK_KERNEL_TEST_DEVICE_H
#define TIDEMARK_KERNEL_TEST_DEVICE_H

#include <linux/types.h>

/* The platform devices' name, without ".<index>". */
#define TIDEMARK_TEST_DEVICE_NAME "tidemark-test"

/* Devices one module can make. */
#define TIDEMARK_TEST_DEVICES_MAX 16

/* The granularity of DMA logging, in bytes. */
#define TIDEMARK_TEST_LOG_PAGE_BYTES 4096

/* The longest write of one doorbell, in bytes. */
#define TIDEMARK_TEST_DOORBELL_BYTES_MAX (1024 * 1024)

/*
 * One DMA write. write() on the device fd takes an array of them, and carries them out in order, before it returns, on
 * behalf of the calling process, which must be the one that made the mappings.
 *
 * It returns the bytes of the doorbells carried out (a multiple of the size of this struct). When one fails the rest are not
 * tried; if it was the first, the call fails with:
 *
 *   EINVAL  the array is empty or not a multiple of the struct; length is zero, not a multiple of 8 or above the maximum;
 *           iova + length goes past 2^64; or a byte of the range is not mapped
 *   EPERM   the range is mapped without VFIO_DMA_MAP_FLAG_WRITE, or without VFIO_DMA_MAP_FLAG_READ
 *   EFAULT  the mapping belongs to another process, or its memory is gone or not writable; or the array cannot be read
 *   EBUSY   the migration state is neither RUNNING nor PRE_COPY (a device in RUNNING_P2P starts no DMA either)
 *
 * A doorbell that is malformed in itself is EINVAL in every migration state; only then does EBUSY come, and then the
 * mappings. A write goes forward page by page. One that fails part of the way has written, dirtied and logged the pages
 * before the failing one, yet it counts as not carried out.
 */
struct tidemark_test_doorbell {
  __u64 iova;   /* first byte to write; need not be aligned */
  __u64 length; /* bytes to write: a multiple of 8, at most TIDEMARK_TEST_DOORBELL_BYTES_MAX */
  __u64 value;  /* what to write: these eight bytes, the lowest first, again and again */
};

/* What read() on the device fd returns, whole and each time anew, in every migration state. A shorter buffer is EINVAL. */
struct tidemark_test_state {
  __u64 doorbells; /* doorbells carried out since the reset */
  __u64 bytes;     /* bytes they wrote */
};

/* What the migration data fd carries begins with one of these, and each section with its own; in the machine's byte order.
 */
struct tidemark_test_section {
  __u64 magic;  /* TIDEMARK_TEST_MIGRATION_MAGIC */
  __u32 kind;   /* TIDEMARK_TEST_SECTION_* */
  __u32 length; /* bytes that follow, of this section */
};

#define TIDEMARK_TEST_SECTION_BALLAST 1
#define TIDEMARK_TEST_SECTION_STATE 2
#define TIDEMARK_TEST_SECTION_END 3

/* Bytes of ballast that a device has unless told otherwise. */
#define TIDEMARK_TEST_BALLAST_BYTES 256

/* "tidetest" in ASCII, the first letter in the lowest byte. */
#define TIDEMARK_TEST_MIGRATION_MAGIC 0x7473657465646974ULL

/* The byte of ballast at a place. */
static inline __u8 tidemark_test_ballast(__u64 at) { return (at * 7 + (at >> 8) * 13 + (at >> 16) * 29 + 5) & 0xff; }

#endif
