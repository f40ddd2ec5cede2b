# SPDX-License-Identifier: Apache-2.0
"""bench/dirty_boot.s with its parameters, and what it tells."""

import struct

from .running import Failed

PARAMETERS_AT = 494
TOLD_AT = 0x9000
PAGE = 4096
FIRST_BYTE = 16 << 20  # below are firmware and the sector itself
ACPI_TICKS_PER_S = 3579545
FLOPPY_BYTES = 1474560
OWED_MS_MAX = 50  # as src/cli/dirtier.cpp


def image(sector, memory_bytes, rate_bytes_per_s):
    """A floppy disk that dirties memory from 16 MiB to memory_bytes."""
    if len(sector) != 512 or sector[-2:] != b"\x55\xaa" or any(sector[PARAMETERS_AT:-2]):
        raise Failed("dirty_boot.bin is no boot sector with room for parameters: build it anew (target dirty_boot)")
    if not FIRST_BYTE < memory_bytes <= 3 << 30:
        raise Failed(f"the guest's memory is {memory_bytes} bytes: the boot sector reaches what is between 16 MiB and 3 GiB")
    pages_per_s = rate_bytes_per_s / PAGE
    if not 0 < pages_per_s < ACPI_TICKS_PER_S:
        raise Failed(f"{rate_bytes_per_s} bytes/s cannot be dirtied: up to {ACPI_TICKS_PER_S} pages a second can")
    disk = bytearray(sector) + bytes(FLOPPY_BYTES - len(sector))
    owed_max = 1 + int(pages_per_s * OWED_MS_MAX / 1000)
    struct.pack_into("<4I", disk, PARAMETERS_AT, round(pages_per_s / ACPI_TICKS_PER_S * (1 << 32)), (memory_bytes - FIRST_BYTE) // PAGE, FIRST_BYTE, owed_max)
    return bytes(disk)


def pages_written(memory):
    """So far, by the guest whose memory this is."""
    return struct.unpack_from("<Q", memory, TOLD_AT)[0]
