#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The parts of tools/bench migrate: that they move what they measure, and fail in one clear line.

    migrate_test.py PLAIN_SEND BOOT_SECTOR"""

import json
import os
import pathlib
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tools"))
from bench_parts import boot_sector, migrate, qemu, qmp, tidemark
from bench_parts.ram import PAGE, SCRIBBLE_EVERY, Ram
from bench_parts.running import Failed

PLAIN_SEND, BOOT = "", ""
MIB = 1 << 20


def sector():
    return pathlib.Path(BOOT).read_bytes()


def pages(ram):
    return [bytes(ram.memory[at : at + PAGE]) for at in range(0, ram.size, PAGE)]


class FailsInOneLine(unittest.TestCase):
    def assert_fails(self, call, *words):
        with self.assertRaises(Failed) as caught:
            call()
        message = str(caught.exception)
        self.assertNotIn("\n", message)
        for word in words:
            self.assertIn(word, message)


class Memory(FailsInOneLine):
    def test_kinds(self):
        with Ram(8 * MIB) as ram:
            empty = bytes(PAGE)
            self.assertEqual(pages(ram.fill("zero")).count(empty), 2048)
            self.assertEqual(pages(ram.fill("random")).count(empty), 0)
            half = pages(ram.fill("half")).count(empty)
            self.assertTrue(900 < half < 1150, half)
            self.assertEqual(pages(ram.fill("half")).count(empty), half)  # the same choice each time

    def test_what_did_not_arrive_is_found(self):
        with Ram(8 * MIB) as source, Ram(8 * MIB) as destination:
            source.fill("random")
            destination.memory[:] = source.memory[:]
            destination.check_arrived(source, "copied")
            destination.scribble()
            self.assert_fails(lambda: destination.check_arrived(source, "nobody"), "nobody", "2 of 2 pages", "0x0")

    def test_too_much_is_refused(self):
        self.assert_fails(lambda: Ram(1 << 50), "/dev/shm", "MiB are free")

    def test_it_has_no_name(self):
        before = set(os.listdir("/dev/shm"))
        with Ram(MIB) as ram:
            self.assertEqual(os.stat(ram.path).st_nlink, 0)
            self.assertFalse({name for name in set(os.listdir("/dev/shm")) - before if str(os.getpid()) in name})


class PlainSend(FailsInOneLine):
    def test_moves_every_byte(self):
        with Ram(9 * MIB + PAGE) as source, Ram(9 * MIB + PAGE) as destination:
            source.fill("random")
            told = tidemark.plain_send(PLAIN_SEND, source, destination)
            self.assertEqual(source.memory[:], destination.memory[:])
        self.assertEqual(told["bytes"], 9 * MIB + PAGE)
        self.assertGreater(told["bytes_per_s"], 0)

    def test_a_turn_is_a_line(self):
        with Ram(MIB) as source, Ram(MIB) as destination:
            run = subprocess.run([PLAIN_SEND, str(MIB), source.path, destination.path, "3"], capture_output=True, text=True, timeout=60)
        self.assertEqual((run.returncode, len([json.loads(line) for line in run.stdout.splitlines()])), (0, 3), run.stderr)

    def test_files_that_are_too_short(self):
        with Ram(2 * MIB) as source, Ram(MIB) as destination:
            self.assert_fails(lambda: tidemark.plain_send(PLAIN_SEND, destination, Short()), "status 1", "No such file")
            run = subprocess.run([PLAIN_SEND, str(2 * MIB), source.path, destination.path], capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 1)
        self.assertIn(destination.path + " has 1048576 bytes: at least 2097152 are needed", run.stderr)

    def test_a_congestion_control_that_is_unknown(self):
        with Ram(MIB) as source, Ram(MIB) as destination:
            self.assert_fails(lambda: tidemark.plain_send(PLAIN_SEND, source, destination, "carrier-pigeon"), "congestion control carrier-pigeon: No such file")

    # A process that is left behind keeps standard error open, which is read to its end here.

    def test_a_failure_leaves_no_process_behind(self):
        with Ram(MIB) as source, Ram(MIB) as destination:
            for _ in range(20):  # the receiver was left in some runs, in others it had not begun
                run = subprocess.run([PLAIN_SEND, str(MIB), source.path, destination.path, "1", "carrier-pigeon"], capture_output=True, text=True, timeout=60)
                self.assertEqual((run.returncode, len(run.stderr.splitlines())), (1, 1), run.stderr)

    def test_a_sender_that_is_killed_leaves_no_process_behind(self):
        with Ram(8 * MIB) as source, Ram(8 * MIB) as destination:
            command = [PLAIN_SEND, str(8 * MIB), source.path, destination.path, "1000"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sender:
                children = pathlib.Path(f"/proc/{sender.pid}/task/{sender.pid}/children")
                while sender.poll() is None and not children.read_text():
                    pass
                sender.kill()
                _, said = sender.communicate(timeout=60)
            self.assertLessEqual(len(said.splitlines()), 1, said)

    def test_usage(self):
        for words in ([], ["0", "a", "b"], ["-1", "a", "b"], ["1x", "a", "b"], ["1", "a", "b", "0"], ["1", "a", "b", "1", "reno", "c"]):
            run = subprocess.run([PLAIN_SEND, *words], capture_output=True, text=True, timeout=60)
            self.assertEqual((run.returncode, len(run.stderr.splitlines())), (2, 1), words)


class Short:
    """A destination that is not there."""

    path = "/dev/shm/tidemark-there-is-none"

    def scribble(self):
        pass


class Protocol(FailsInOneLine):
    """The client against answers that are given here."""

    def client(self, *lines):
        ours, theirs = qmp.socket_pair()
        self.addCleanup(ours.close)
        theirs.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in ({"QMP": {}}, {"return": {}}, *lines)))
        self.addCleanup(theirs.close)
        return qmp.Qmp(ours, "here"), theirs

    def test_answers_and_events_in_any_order(self):
        client, server = self.client({"event": "STOP", "timestamp": {"seconds": 2, "microseconds": 500000}}, {"return": {"a": 1}})
        self.assertEqual(client.ask("query"), {"a": 1})
        self.assertEqual(qmp.seconds_of(client.wait_for("STOP")), 2.5)
        server.shutdown(1)
        sent = [json.loads(line)["execute"] for line in server.makefile("r").readlines()] if client.close() is None else []
        self.assertEqual(sent, ["qmp_capabilities", "query"])

    def test_an_error(self):
        client, _ = self.client({"error": {"class": "GenericError", "desc": "no such thing"}})
        self.assert_fails(lambda: client.ask("migrate"), "here: migrate: no such thing")

    def test_qemu_ends(self):
        client, server = self.client()
        server.shutdown(1)
        self.assert_fails(lambda: client.ask("migrate"), "here: QEMU ended", "migrate")

    def test_a_reason_to_wait_no_longer(self):
        client, _ = self.client({"event": "SHUTDOWN"})
        self.assert_fails(lambda: client.wait_for("STOP", failing=lambda event: "it is off" if event["event"] == "SHUTDOWN" else None), "here: it is off")


class BootSector(FailsInOneLine):
    def test_parameters(self):
        disk = boot_sector.image(sector(), 1 << 30, 200 * MIB)
        ticks, count, first, owed = struct.unpack_from("<4I", disk, boot_sector.PARAMETERS_AT)
        self.assertEqual((count, first, owed), ((1 << 18) - 4096, 16 * MIB, 2561))
        self.assertAlmostEqual(ticks * boot_sector.ACPI_TICKS_PER_S / (1 << 32), 51200, places=2)
        self.assertEqual(disk[510:512], b"\x55\xaa")

    def test_refusals(self):
        self.assert_fails(lambda: boot_sector.image(bytes(512), 1 << 30, MIB), "no boot sector")
        self.assert_fails(lambda: boot_sector.image(sector(), 4 << 30, MIB), "4294967296", "3 GiB")
        self.assert_fails(lambda: boot_sector.image(sector(), 1 << 30, 1 << 40), "cannot be dirtied")


def words_of_the_guest(count, pages_in_all):
    """What the boot sector has written after so many pages, by page: its random numbers (xorshift32), each to the page it chooses."""
    number, words = 2463534242, {}
    for _ in range(count):
        number ^= number << 13 & 0xFFFFFFFF
        number ^= number >> 17
        number ^= number << 5 & 0xFFFFFFFF
        words[number * pages_in_all >> 32] = struct.pack("<I", number)
    return words


class Qemu(FailsInOneLine):
    def test_all_memory_arrives(self):
        with Ram(64 * MIB) as source, Ram(64 * MIB) as destination:
            source.fill("half")
            for way in migrate.QEMU_WAYS:
                destination.fill("random")
                given = qemu.throughput(source, destination, way)
                self.assertEqual(source.memory[:], destination.memory[:], way)
                self.assertGreater(given["bytes_per_s"], 0)

    def test_a_guest_that_dirties(self):
        """It goes on at the destination, behind a STOP and a RESUME; what it says it wrote is there, the last of it, too."""
        with Ram(64 * MIB) as source, Ram(64 * MIB) as destination:
            source.fill("random")
            given = qemu.blackout(source, destination, qemu.Way(1), sector(), 8 * MIB, 300)
            written = boot_sector.pages_written(source.memory)
            self.assertGreater(given["rounds"], 1)
            self.assertGreater(given["blackout_ms"], 0)
            self.assertGreater(written, 0)
            self.assertGreaterEqual(boot_sector.pages_written(destination.memory), written)
            for page, value in words_of_the_guest(written, (64 * MIB - boot_sector.FIRST_BYTE) // PAGE).items():
                at = boot_sector.FIRST_BYTE + page * PAGE
                self.assertEqual(source.memory[at : at + 4], value, f"page {page} of {written}")

    def test_a_machine_that_does_not_start(self):
        with Ram(64 * MIB) as ram:
            self.assert_fails(lambda: qemu.Machine("source", ram, floppy="/there/is/none"), "source", "QEMU ended", "/there/is/none")

    def test_a_migration_to_nobody(self):
        with Ram(64 * MIB) as ram, qemu.Machine("source", ram) as machine:
            machine.set_up(qemu.Way(0), 300)
            machine.qmp.ask("migrate", uri="tcp:127.0.0.1:1")
            self.assert_fails(machine.wait_migrated, "source: the migration failed", "Connection refused")


TOOL = '''#!/bin/sh
case "$1 $2" in
"receive tcp:"*) echo '{"event":"listening","address":"tcp:127.0.0.1:7"}' ;;
"receive fd:"*) echo '{"event":"listening"}' ;;
"migrate "*) echo "$*" >>"$0.asked"; %s ;;
esac
'''
SUMMARY = """echo '{"event":"summary","total_ms":4,"blackout_ms":3,"predicted_blackout_ms":2,"rounds":1}'"""


class OurTool(FailsInOneLine):
    """What it is asked, and what is made of its answers."""

    def tool(self, source_side=SUMMARY):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "tool"
        self.path.write_text(TOOL % source_side)
        self.path.chmod(stat.S_IRWXU)
        return tidemark.Tool(str(self.path))

    def asked(self):
        return pathlib.Path(str(self.path) + ".asked").read_text()

    def test_memory_that_did_not_move(self):
        with Ram(8 * MIB) as source, Ram(8 * MIB) as destination:
            source.fill("random")
            self.assert_fails(lambda: self.tool().throughput(source, destination, 2), "tidemark, 2 channels: 2 of 2 pages")
            self.assertEqual(self.asked(), f"migrate tcp:127.0.0.1:7 --plain --ram {source.path} --channels 2 --compression none --congestion-control auto --json\n")

    def test_blackout(self):
        with Ram(MIB) as ram:
            self.assertEqual(self.tool().blackout(ram, ram, 200 * MIB, 300)["blackout_ms"], 3)
        self.assertIn("--cpu-rate 200MiB --downtime-ms 300", self.asked())

    def test_hand_over(self):
        self.assertEqual(self.tool().hand_over(8 << 30)["total_ms"], 4)
        self.assertRegex(self.asked(), "^migrate fd:/.*/socket --memory 8GiB --json\n$")

    def test_failures(self):
        with Ram(MIB) as ram:
            for source_side, *words in (("echo first >&2; echo it broke >&2; exit 3", "status 3", ": it broke"), ("true", "without its summary"),
                                        ("""echo '{"event":"summary","total_ms":1}'""", "has no blackout_ms, predicted_blackout_ms, rounds")):  # fmt: skip
                self.assert_fails(lambda tool=self.tool(source_side): tool.blackout(ram, ram, MIB, 1), "migrate", *words)


class Figures(unittest.TestCase):
    def test_a_ratio_is_by_turn_and_against_the_best(self):
        given = {name: [{"bytes_per_s": value} for value in values] for name, values in {"we": [2, 6, 30], "a": [1, 2, 3], "b": [2, 1, 10]}.items()}
        self.assertEqual(migrate.ratio(given, ["we"], ["a", "b"]), 3)
        self.assertIsNone(migrate.ratio(given, ["nobody"], ["a"]))

    def test_turns_are_one_behind_the_other(self):
        done = []
        migrate.in_turn({name: lambda name=name: done.append(name) for name in "ab"}, 2)
        self.assertEqual(done, ["a", "b", "a", "b"])


if __name__ == "__main__":
    PLAIN_SEND, BOOT = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
