# SPDX-License-Identifier: Apache-2.0
"""Guest memory that several processes map: a file of /dev/shm without a name, so that it is gone with the last process that has it, whatever happens.

All of it is written when it is made, and stays through the whole bench: memory that nobody touched yet is slow to come where the machine is itself a
guest, and one would measure its host."""

import mmap
import os
import random

from .running import Failed

PAGE = 4096
CHUNK = 64 << 20
SCRIBBLE_EVERY = 4 << 20


class Ram:
    """`path` is good for any process of this user while this one lives."""

    def __init__(self, size):
        room = os.statvfs("/dev/shm")
        if room.f_bavail * room.f_frsize < size:
            raise Failed(f"/dev/shm: {size >> 20} MiB are needed, {room.f_bavail * room.f_frsize >> 20} MiB are free: ask for less --memory, or free some")
        self.size = size
        self.file = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)
        self.path = f"/proc/{os.getpid()}/fd/{self.file}"
        os.posix_fallocate(self.file, 0, size)
        self.memory = mmap.mmap(self.file, size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.memory.close()
        os.close(self.file)

    def fill(self, kind):
        """zero; untouched: the same, and nobody ever wrote it; random: nothing compresses it; half: every other page, by chance, is zero."""
        if kind == "untouched":
            return self.untouch()
        chance = random.Random(kind)
        for at in range(0, self.size, CHUNK):
            self.memory[at : at + CHUNK] = chunk(kind, min(CHUNK, self.size - at), chance)
        return self

    def untouch(self):
        """As it is in a guest that was just made: holes, which become pages when somebody looks."""
        os.ftruncate(self.file, 0)
        os.ftruncate(self.file, self.size)
        return self

    def scribble(self):
        """Spoils a page here and there, so that a migration that moved nothing is found out."""
        for at in range(0, self.size, SCRIBBLE_EVERY):
            self.memory[at : at + PAGE] = b"\xa5" * PAGE

    def check_arrived(self, source, who):
        """Looks at the pages that scribble() spoiled."""
        wrong = [at for at in range(0, self.size, SCRIBBLE_EVERY) if self.memory[at : at + PAGE] != source.memory[at : at + PAGE]]
        if wrong:
            raise Failed(f"{who}: {len(wrong)} of {self.size // SCRIBBLE_EVERY} pages looked at are not as at the source; the first at {wrong[0]:#x}")


def chunk(kind, size, chance):
    if kind == "zero":
        return bytes(size)
    data = bytearray(os.urandom(size))
    if kind == "half":
        for at in range(0, size, PAGE):
            if chance.getrandbits(1):
                data[at : at + PAGE] = bytes(PAGE)
    return data
