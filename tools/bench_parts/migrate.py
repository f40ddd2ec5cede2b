# SPDX-License-Identifier: Apache-2.0
"""tools/bench migrate: our migrations, QEMU's and the plain loop of sends, in turn with each other. `tools/bench --help` explains each figure."""

import argparse
import functools
import os
import pathlib
import signal
import statistics
import sys

from . import qemu
from .qemu import Way
from .ram import Ram
from .running import BUILT, Failed, build
from .tidemark import Tool, plain_send

GROUPS = ("random", "zero", "written", "half", "tls", "blackout", "fd")
PROMISED = ("vs_qemu_1", "vs_qemu_2", "vs_qemu_plain", "vs_plain_send", "vs_qemu_1_alike", "vs_qemu_2_alike", "vs_plain_send_alike", "vs_plain_send_reno", "vs_qemu_zero",
            "vs_qemu_zero_written", "vs_qemu_half", "tls_vs_plain", "blackout_vs_predicted", "blackout_vs_qemu", "fd_handover_ms")  # fmt: skip
HANDED_OVER = 8 << 30
QEMU_WAYS = (Way(0), Way(1), Way(2))
HOST_CONTROL = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")  # the host's own choice, which QEMU and the plain loop take


def tell_progress(text):
    """A line that the next one overwrites, for whoever looks on: it takes minutes."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def in_turn(works, turns):
    """Each work once a turn, one behind the other: {name: [what it gave, a turn]}."""
    given = {name: [] for name in works}
    try:
        for turn in range(turns):
            for name, work in works.items():
                tell_progress(f"turn {turn + 1} of {turns}: {name}")
                given[name].append(work())
    finally:
        tell_progress("")
    return given


def before(first, work):
    def both():
        first()
        return work()

    return both


def column(given, name, field):
    return [one[field] for one in given[name]]


def middle(given, name, field):
    return statistics.median(column(given, name, field)) if name in given else None


def best(given, names, field):
    """By turn."""
    return [max(turn) for turn in zip(*(column(given, name, field) for name in names))]


def ratio(given, ours, others, field="bytes_per_s"):
    """The best of ours to the best of the others, by turn, then the middle; None without ours."""
    if ours[0] not in given:
        return None
    return round(statistics.median(mine / other for mine, other in zip(best(given, ours, field), best(given, others, field))), 3)


class Bench:
    """One run. The source's memory and the destination's are the same for all who migrate."""

    def __init__(self, asked):
        self.asked = asked
        self.tool = None if asked.without_tidemark else Tool(asked.program)
        self.figures = dict.fromkeys(PROMISED)
        self.host_control = HOST_CONTROL.read_text().strip()

    def measure(self):
        for group in self.asked.only:
            getattr(self, "measure_" + group)()
        machine = {"congestion_control": self.host_control, "memory_bytes": self.asked.memory, "processors": os.cpu_count()}
        return self.figures | {"qemu_version": qemu.version()} | machine

    # --- throughput ---

    def by_qemu(self, source, destination, *ways):
        return {f"qemu {way}": functools.partial(qemu.throughput, source, destination, way) for way in ways}

    def by_us(self, source, destination, *channels, called="tidemark", **options):
        if self.tool is None:
            return {}
        return {f"{called} {count}": functools.partial(self.tool.throughput, source, destination, count, **options) for count in channels}

    def by_plain_send(self, source, destination):
        works = {"plain send": (), "plain send reno": ("reno",)}
        return {name: functools.partial(plain_send, self.asked.plain, source, destination, *control) for name, control in works.items()}

    def measure_throughput(self, kind, works_of):
        """A table, and the absolute numbers as figures of their own."""
        with Ram(self.asked.memory) as source, Ram(self.asked.memory) as destination:
            source.fill(kind)
            destination.fill("zero")
            works = works_of(source, destination)
            if kind == "untouched":
                works = {name: before(lambda: (source.untouch(), destination.untouch()), work) for name, work in works.items()}
            given = in_turn(works, self.asked.turns)
        print(f"{kind} memory, {self.asked.memory >> 20} MiB        GB/s: middle   least    most")
        for name in given:
            rates = [rate / 1e9 for rate in column(given, name, "bytes_per_s")]
            print(f"  {name:32}  {statistics.median(rates):8.2f}{min(rates):8.2f}{max(rates):8.2f}")
            self.figures[f"{kind}_{name.replace(' ', '_')}_gb_per_s"] = round(statistics.median(rates), 3)
        print(flush=True)
        return given

    def measure_random(self):
        def works(source, destination):
            alike = self.by_us(source, destination, 1, 2, called="tidemark alike", congestion_control=self.host_control)
            ours = self.by_us(source, destination, 1, 2) | alike
            return ours | self.by_qemu(source, destination, *QEMU_WAYS) | self.by_plain_send(source, destination)

        given = self.measure_throughput("random", works)
        self.figures["vs_qemu_1"] = ratio(given, ["tidemark 1"], ["qemu multifd 1"])
        self.figures["vs_qemu_2"] = ratio(given, ["tidemark 2"], ["qemu multifd 2"])
        self.figures["vs_qemu_plain"] = ratio(given, ["tidemark 1"], ["qemu plain"])
        self.figures["vs_plain_send"] = ratio(given, ["tidemark 1"], ["plain send"])
        self.figures["vs_qemu_1_alike"] = ratio(given, ["tidemark alike 1"], ["qemu multifd 1"])
        self.figures["vs_qemu_2_alike"] = ratio(given, ["tidemark alike 2"], ["qemu multifd 2"])
        self.figures["vs_plain_send_alike"] = ratio(given, ["tidemark alike 1"], ["plain send"])
        self.figures["vs_plain_send_reno"] = ratio(given, ["tidemark 1"], ["plain send reno"])

    def measure_zero(self):
        self.figures["vs_qemu_zero"] = self.measure_against_best("untouched")

    def measure_written(self):
        self.figures["vs_qemu_zero_written"] = self.measure_against_best("zero")

    def measure_half(self):
        self.figures["vs_qemu_half"] = self.measure_against_best("half")

    def measure_against_best(self, kind):
        """Each side's best way, in each turn."""
        given = self.measure_throughput(kind, lambda *rams: self.by_us(*rams, 1, 2) | self.by_qemu(*rams, *QEMU_WAYS))
        return ratio(given, ["tidemark 1", "tidemark 2"], [f"qemu {way}" for way in QEMU_WAYS])

    def measure_tls(self):
        if self.tool is None:
            return

        def works(source, destination):
            return self.by_us(source, destination, 1) | {"tidemark tls": lambda: self.tool.throughput(source, destination, 1, tls=True)}

        self.figures["tls_vs_plain"] = ratio(self.measure_throughput("random", works), ["tidemark tls"], ["tidemark 1"])

    # --- blackout ---

    def measure_blackout(self):
        asked = self.asked
        with open(asked.boot, "rb") as file:
            sector = file.read()
        with Ram(asked.blackout_memory) as source, Ram(asked.blackout_memory) as destination:
            source.fill("random")
            destination.fill("zero")
            self.figures |= qemu.check_guest(source, sector, asked.rate)
            works = {f"qemu {way}": functools.partial(qemu.blackout, source, destination, way, sector, asked.rate, asked.downtime_ms) for way in QEMU_WAYS}
            if self.tool:
                works = {"tidemark": functools.partial(self.tool.blackout, source, destination, asked.rate, asked.downtime_ms)} | works
            given = in_turn(works, asked.blackout_turns)
        self.tell_blackout(given)

    def tell_blackout(self, given):
        asked = self.asked
        title = f"{asked.blackout_memory >> 20} MiB, {asked.rate >> 20} MiB/s dirtied, {asked.downtime_ms} ms allowed"
        print(f"{title:46}ms: middle   least    most   total  rounds")
        for name in given:
            times = column(given, name, "blackout_ms")
            total, rounds = middle(given, name, "total_ms"), middle(given, name, "rounds")
            print(f"  {name:44}{statistics.median(times):11.1f}{min(times):8.1f}{max(times):8.1f}{total:8.0f}{rounds:8.0f}")
            told = {"blackout_ms": statistics.median(times), "blackout_ms_max": max(times), "total_ms": total, "rounds": rounds}
            self.figures |= {f"{name.replace(' ', '_')}_{field}": round(value, 1) for field, value in told.items()}
        print(flush=True)
        if self.tool:
            rival = min((f"qemu {way}" for way in QEMU_WAYS), key=lambda name: middle(given, name, "blackout_ms"))
            self.figures["blackout_vs_predicted"] = round(statistics.median(one["blackout_ms"] / one["predicted_blackout_ms"] for one in given["tidemark"]), 3)
            self.figures["blackout_vs_qemu"] = round(middle(given, "tidemark", "blackout_ms") / middle(given, rival, "blackout_ms"), 3)
            self.figures["blackout_of_qemu"] = rival.removeprefix("qemu ")
        self.figures["guest_dirty_rate_migrating"] = round(statistics.median(one["dirty_rate"] for way in QEMU_WAYS for one in given[f"qemu {way}"]))

    def measure_fd(self):
        if self.tool is None:
            return
        given = in_turn({"handed over": lambda: self.tool.hand_over(HANDED_OVER)}, self.asked.turns)
        self.figures["fd_handover_ms"] = middle(given, "handed over", "total_ms")
        print(f"{HANDED_OVER >> 30} GiB handed over: {self.figures['fd_handover_ms']:.1f} ms\n", flush=True)


def find_programs(asked):
    """Builds what was not given."""
    programs = {"plain": ("tidemark_plain_send", BUILT / "bench" / "tidemark_plain_send"), "boot": ("dirty_boot", BUILT / "bench" / "dirty_boot.bin")}
    if not asked.without_tidemark:
        programs["program"] = ("tidemark_tool", BUILT / "tidemark")
    missing = {name: of for name, of in programs.items() if getattr(asked, name) is None}
    if missing:
        build(*(target for target, _ in missing.values()))
    for name, (_, path) in missing.items():
        setattr(asked, name, str(path))


def size_of(word):
    """Bytes of 512MiB or 2GiB."""
    for unit, factor in (("MiB", 1 << 20), ("GiB", 1 << 30)):
        if word.endswith(unit) and word.removesuffix(unit).isdecimal() and int(word.removesuffix(unit)) > 0:
            return int(word.removesuffix(unit)) * factor
    raise argparse.ArgumentTypeError(f"{word} is no size such as 512MiB or 2GiB")


def groups_of(word):
    groups = word.split(",")
    if not set(groups) <= set(GROUPS):
        raise argparse.ArgumentTypeError(f"{word}: the groups are {', '.join(GROUPS)}")
    return groups


def count_of(word):
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} is no whole number above 0")
    return int(word)


def add_options(parser):
    parser.add_argument("--only", type=groups_of, default=list(GROUPS))
    parser.add_argument("--turns", type=count_of, default=5)
    parser.add_argument("--blackout-turns", type=count_of, default=9)
    parser.add_argument("--memory", type=size_of, default=2 << 30)
    parser.add_argument("--blackout-memory", type=size_of, default=1 << 30)
    parser.add_argument("--rate", type=size_of, default=200 << 20)
    parser.add_argument("--downtime-ms", type=count_of, default=300)
    parser.add_argument("--without-tidemark", action="store_true")
    parser.add_argument("--program")
    parser.add_argument("--plain")
    parser.add_argument("--boot")


def end_by_signal(number, _):
    raise Failed(f"ended by {signal.Signals(number).name}")


def measure(asked):
    signal.signal(signal.SIGTERM, end_by_signal)  # as any failure: what runs is ended
    find_programs(asked)
    return Bench(asked).measure()
