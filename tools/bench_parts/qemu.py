# SPDX-License-Identifier: Apache-2.0
"""Migrations of QEMU, from one process to another over loopback TCP: their throughput, and their blackout with a guest that dirties memory.

The machine is the smallest `pc`, emulated, with its RAM in a file that is touched before. Multifd or one plain stream; bandwidth without a limit.
What QEMU says of itself is taken where it is better for QEMU than what is seen from outside."""

import contextlib
import dataclasses
import os
import select
import shutil
import subprocess
import tempfile
import time

from . import boot_sector
from .qmp import PATIENCE, Qmp, seconds_of, socket_pair
from .running import Failed, bound_to_us, end

PROGRAM = "qemu-system-x86_64"
NO_LIMIT = 1 << 40  # bytes a second
RATE_WINDOW_S = 1.0  # for which the guest's dirty rate is measured


@dataclasses.dataclass
class Way:
    """How QEMU sends: one plain stream, or multifd with so many channels."""

    channels: int = 0

    def __str__(self):
        return f"multifd {self.channels}" if self.channels else "plain"


class Machine:
    """One QEMU, stopped (-S), or waiting for a migration."""

    def __init__(self, name, ram, floppy=None, incoming=False):
        if shutil.which(PROGRAM) is None:
            raise Failed(f"{PROGRAM} is not installed: run tools/setup")
        self.name, self.ram = name, ram
        self.errors = tempfile.TemporaryFile("w+")
        self.console, console = socket_pair()
        ours, theirs = socket_pair()
        try:
            self.process = subprocess.Popen(
                bound_to_us(self.command(theirs.fileno(), console.fileno(), floppy, incoming)),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors, pass_fds=[theirs.fileno(), console.fileno()])
        finally:
            theirs.close()
            console.close()
        try:
            self.qmp = Qmp(ours, name)
        except Failed as failure:
            words = self.last_words()
            self.close(ours)
            raise Failed(f"{failure}{words}") from failure

    def command(self, monitor, console, floppy, incoming):
        ram = f"memory-backend-file,id=ram,size={self.ram.size},mem-path={self.ram.path},share=on,prealloc=on"
        return [PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc,accel=tcg,memory-backend=ram", "-m", f"{self.ram.size}B",
                "-object", ram, "-chardev", f"socket,id=qmp,fd={monitor}", "-mon", "chardev=qmp,mode=control",
                "-chardev", f"socket,id=console,fd={console}", "-device", "isa-debugcon,iobase=0xe9,chardev=console",
                *(["-drive", f"if=floppy,format=raw,readonly=on,file={floppy}"] if floppy else []),
                *(["-incoming", "defer"] if incoming else ["-S"])]  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close(self.qmp)

    def close(self, monitor):
        end(self.process)
        monitor.close()
        self.console.close()
        self.errors.close()

    def last_words(self):
        self.errors.seek(0)
        lines = self.errors.read().split("\n")
        return "".join(": " + line for line in lines if line)[:500]

    def set_up(self, way, downtime_ms):
        capabilities = {"multifd": way.channels > 0, "events": True}
        self.qmp.ask("migrate-set-capabilities", capabilities=[{"capability": name, "state": state} for name, state in capabilities.items()])
        parameters = {"max-bandwidth": NO_LIMIT, "downtime-limit": downtime_ms} | ({"multifd-channels": way.channels} if way.channels else {})
        self.qmp.ask("migrate-set-parameters", **parameters)

    def listen(self):
        """Gives its port."""
        self.qmp.ask("migrate-incoming", uri="tcp:127.0.0.1:0")
        return self.qmp.ask("query-migrate")["socket-address"][0]["port"]

    def wait_migrated(self):
        """Gives the event."""
        return self.qmp.wait_for(("MIGRATION", "completed"), failing=lambda event: self.why_failed(event))

    def statistics(self):
        """Of a migration that completed: QEMU says that it did before it reckons its times."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            told = self.qmp.ask("query-migrate")
            if told.get("total-time"):
                return told
            time.sleep(0.001)
        raise Failed(f"{self.name}: query-migrate gave no total time in {PATIENCE} s")

    def why_failed(self, event):
        if event["event"] == "SHUTDOWN":
            return "QEMU shut down"
        if event["event"] == "MIGRATION" and event["data"]["status"] in ("failed", "cancelled"):
            return f"the migration {event['data']['status']}: " + self.qmp.ask("query-migrate").get("error-desc", "QEMU does not say why") + self.last_words()
        return None

    def wait_running_guest(self):
        """Until the boot sector has dirtied its first pages."""
        self.qmp.ask("cont")
        if not select.select([self.console], [], [], PATIENCE)[0] or self.console.recv(1) != b"1":
            raise Failed(f"{self.name}: the boot sector did not begin{self.last_words()}")


@contextlib.contextmanager
def pair(source, destination, way, downtime_ms, floppy=None):
    """Two machines, and the address at which the second waits for the first."""
    with Machine("source", source, floppy) as a, Machine("destination", destination, floppy, incoming=True) as b:
        for machine in (a, b):
            machine.set_up(way, downtime_ms)
        yield a, b, f"tcp:127.0.0.1:{b.listen()}"


def throughput(source, destination, way):
    """Bytes of RAM a second: by QEMU's total time without its set-up, or from the command to the end seen from outside, whichever is better for it."""
    destination.scribble()
    with pair(source, destination, way, downtime_ms=300) as (a, b, address):
        start = time.time()
        a.qmp.ask("migrate", uri=address)
        seconds = seconds_of(a.wait_migrated()) - start
        b.wait_migrated()
        told = a.statistics()
    destination.check_arrived(source, f"QEMU, {way}")
    best = min(seconds, max(1, told["total-time"] - told.get("setup-time", 0)) / 1000)
    return {"bytes_per_s": source.size / best, "total_ms": told["total-time"], "setup_ms": told.get("setup-time"), "outside_ms": seconds * 1000}


def dirty_rate(memory, seconds):
    """Bytes a second that the guest dirties, by its own count of pages."""
    before, start = boot_sector.pages_written(memory), time.monotonic()
    time.sleep(seconds)
    return (boot_sector.pages_written(memory) - before) * boot_sector.PAGE / (time.monotonic() - start)


@contextlib.contextmanager
def floppy_of(sector, memory_bytes, rate):
    with tempfile.NamedTemporaryFile(prefix="tidemark-bench-", suffix=".img") as floppy:
        floppy.write(boot_sector.image(sector, memory_bytes, rate))
        floppy.flush()
        yield floppy.name


def blackout(source, destination, way, sector, rate, downtime_ms):
    """A migration of a guest that dirties `rate` bytes a second. The blackout is from the source's STOP to the destination's RESUME."""
    with floppy_of(sector, source.size, rate) as floppy, pair(source, destination, way, downtime_ms, floppy) as (a, b, address):
        a.wait_running_guest()
        written, start = boot_sector.pages_written(source.memory), time.time()
        a.qmp.ask("migrate", uri=address)
        stopped = a.qmp.wait_for("STOP", failing=a.why_failed)
        resumed = b.qmp.wait_for("RESUME", failing=b.why_failed)
        a.wait_migrated()
        told = a.statistics()
        written = boot_sector.pages_written(source.memory) - written
    return {
        "blackout_ms": (seconds_of(resumed) - seconds_of(stopped)) * 1000,
        "downtime_ms": told["downtime"],
        "total_ms": told["total-time"],
        "rounds": told["ram"]["dirty-sync-count"],
        "dirty_rate": written * boot_sector.PAGE / (seconds_of(stopped) - start),
    }


def check_guest(ram, sector, rate):
    """What the boot sector really dirties, by its own count and by QEMU's look at samples of memory, in bytes a second. The second counts a page
    once however often it was met."""
    with floppy_of(sector, ram.size, rate) as floppy, Machine("guest", ram, floppy) as machine:
        machine.wait_running_guest()
        written = dirty_rate(ram.memory, RATE_WINDOW_S)
        machine.qmp.ask("calc-dirty-rate", **{"calc-time": 1, "sample-pages": 4096})
        while (sampled := machine.qmp.ask("query-dirty-rate"))["status"] != "measured":
            time.sleep(0.05)
    if not 0.8 < written / rate < 1.25:
        raise Failed(f"the guest dirties {written / (1 << 20):.0f} MiB/s instead of {rate / (1 << 20):.0f}: the machine is too busy, or cannot do it")
    return {"guest_dirty_rate": round(written), "guest_dirty_rate_sampled": sampled["dirty-rate"] << 20}


def version():
    run = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    return run.stdout.split("\n")[0].removeprefix("QEMU emulator version ")
