/* SPDX-License-Identifier: (GPL-2.0 OR Apache-2.0) */
/*
 * What <linux/vfio.h> of Linux 6.1 lacks of device migration: PRE_COPY and the size of what is left, both of 6.2. Numbers
 * and layouts are the kernel's. Included after <linux/vfio.h>, whose own names come first where it has them.
 */
#ifndef TIDEMARK_KERNEL_VFIO_NEWER_H
#define TIDEMARK_KERNEL_VFIO_NEWER_H

#ifdef __cplusplus
#pragma GCC system_header /* as the header it stands for: C's casts in it are no warnings */
#endif

#include <linux/types.h>
#include <linux/vfio.h>

#ifndef VFIO_MIGRATION_PRE_COPY

#define VFIO_MIGRATION_PRE_COPY (1 << 2)

#define VFIO_DEVICE_STATE_PRE_COPY ((enum vfio_device_mig_state)6)
#define VFIO_DEVICE_STATE_PRE_COPY_P2P ((enum vfio_device_mig_state)7)

/* On a migration data fd. */
struct vfio_precopy_info {
  __u32 argsz;
  __u32 flags;
  __aligned_u64 initial_bytes;
  __aligned_u64 dirty_bytes;
};
#define VFIO_MIG_GET_PRECOPY_INFO _IO(VFIO_TYPE, VFIO_BASE + 21)

struct vfio_device_feature_mig_data_size {
  __aligned_u64 stop_copy_length;
};
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9

#endif

#endif
