#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tidemark migrate and tidemark receive from outside: what arrives, what is printed, what each refusal says, how they end.

    migration_test.py TIDEMARK
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as tree

sys.dont_write_bytecode = True  # the tree stays as it is
from relay import Relay

TOOL = ""
MIB = 1 << 20
DEVICE = "tidemark-test.0"


def some_memory(size, seed=1):
    """Pages that are zero, the same as others, text, and random."""
    numbers = random.Random(seed)

    def page(number):
        if number % 8 == 0:
            return bytes(4096)
        if number % 8 == 1:
            return b"\x07" * 4096
        return (b"text %07d\n..." % number) * 256 if number % 8 == 2 else numbers.randbytes(4096)

    return b"".join(map(page, range(size // 4096)))


class Process:
    """The tool, while it runs."""

    def __init__(self, case, words):
        self.process = subprocess.Popen([TOOL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        case.addCleanup(self.process.communicate)
        case.addCleanup(self.process.kill)
        self.pid = self.process.pid
        self.events = []

    def until(self, what):
        """Reads events to the first of which `what` is true."""
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if what(self.events[-1]):
                return self.events[-1]
        raise AssertionError("it ended: " + self.process.stderr.read() + str(self.events))

    def end(self):
        """The events, and what is on standard error, when it has ended."""
        out, err = self.process.communicate(timeout=60)
        self.events += [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, self.events, err

    def signals_blocked(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return int(re.search(r"^SigBlk:\s*(\w+)", status.read(), re.MULTILINE)[1], 16)


def wait_until(what):
    """For what nobody tells."""
    until = time.monotonic() + 60
    while not what():
        if time.monotonic() > until:
            raise AssertionError("it never became so")
        time.sleep(0.002)


def of(events, kind):
    return [event for event in events if event["event"] == kind]


class Case(unittest.TestCase):
    PATIENT = ("--recovery-ms", "3600000")  # whoever tries again, or waits for somebody who does, does not end in time

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def file(self, name, content, mode=0o600):
        with open(self.path(name), "wb") as file:
            file.write(content)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def key(self, name="key", seed=1):
        return self.file(name, random.Random(seed).randbytes(32).hex().encode() + b"\n")

    def read(self, path):
        with open(path, "rb") as file:
            return file.read()

    def ram(self, side, *sizes, seed=1):
        """--ram files: with memory at the source, empty at the destination."""
        words = []
        for i, size in enumerate(sizes):
            content = some_memory(size, seed + i) if side == "source" else bytes(size)
            words += ["--ram", self.file(f"{side}{i}", content)]
        return words

    def assert_same_memory(self, count=1):
        for i in range(count):
            self.assertTrue(self.read(self.path(f"source{i}")) == self.read(self.path(f"destination{i}")), f"block {i} differs")

    def start(self, *words):
        return Process(self, words)

    def receive(self, at, *words):
        """The destination, which listens; and where."""
        destination = self.start("receive", at, "--json", *words)
        return destination, destination.until(lambda event: event["event"] == "listening")["address"]

    def migrate(self, to, *words):
        return self.start("migrate", to, "--json", *words).end()

    def assert_arrives(self, at, here=(), there=(), both=()):
        """Source and destination run to their ends. The events of both."""
        destination, address = self.receive(at, *there, *both)
        status, left, err = self.migrate(address, *here, *both)
        self.assertEqual((status, err), (0, ""), left[-1])
        status, arrived, err = destination.end()
        self.assertEqual((status, err), (0, ""), arrived[-1])
        self.assertEqual(left[-1]["event"], "summary")
        self.assertEqual([event["event"] for event in arrived], ["listening", "arrived"] + ["device"] * len(of(arrived, "device")))
        return left, arrived

    def assert_one_line(self, words, *parts, status=1):
        """For a person: what is wrong is one line on standard error."""
        run = subprocess.run([TOOL, *words], capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, status, run.stderr)
        self.assertEqual(len(run.stderr.splitlines()), 1, run.stderr)
        self.assertTrue(run.stderr.startswith("tidemark: "), run.stderr)
        for part in parts:
            self.assertIn(part, run.stderr)
        return run

    def certificates(self, prefix=""):
        """An authority and what it signed for 127.0.0.1: the words of each side."""

        def openssl(*words):
            subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.folder, timeout=60)

        authority = self.path(prefix + "authority.pem")
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl("req", "-x509", *new_key, "-keyout", prefix + "authority.key", "-out", authority, "-subj", "/CN=authority", "-days", "2")
        words = []
        for side in (prefix + "source", prefix + "destination"):
            openssl("req", *new_key, "-keyout", side + ".key", "-out", side + ".csr", "-subj", "/CN=" + side)
            self.file("names", b"subjectAltName=IP:127.0.0.1,DNS:tide." + side.encode())
            openssl("x509", "-req", "-in", side + ".csr", "-CA", authority, "-CAkey", prefix + "authority.key", "-CAcreateserial",
                    "-out", side + ".pem", "-days", "2", "-extfile", "names")
            words.append(["--tls-certificate", self.path(side + ".pem"), "--tls-key", self.path(side + ".key"),
                          "--tls-authority", authority])
        return words


class Arrives(Case):
    def test_over_plain_tcp(self):
        left, arrived = self.assert_arrives("tcp:127.0.0.1:0", self.ram("source", 8 * MIB), self.ram("destination", 8 * MIB),
                                            ["--plain"])
        self.assert_same_memory()
        self.assertEqual(left[-1]["sent_bytes"], 8 * MIB)
        self.assertGreater(left[-1]["zero_bytes"], 0)
        self.assertGreater(left[-1]["repeated_bytes"], 0)
        self.assertEqual(of(arrived, "arrived")[0]["received_bytes"], 8 * MIB)

    def test_over_three_channels(self):
        left, _ = self.assert_arrives("tcp:127.0.0.1:0", [*self.ram("source", 16 * MIB), "--channels", "3"],
                                      self.ram("destination", 16 * MIB), ["--plain"])
        self.assert_same_memory()
        self.assertEqual(left[-1]["channels"], 3)

    def test_blocks_of_different_sizes_in_every_packing(self):
        sizes = (4096, 3 * MIB + 4096, MIB)
        for packing in ("none", "lz4", "zstd"):
            with self.subTest(packing):
                here = [*self.ram("source", *sizes, seed=len(packing)), "--compression", packing, "--channels", "2"]
                self.assert_arrives("unix:" + self.path("socket"), here, self.ram("destination", *sizes))
                self.assert_same_memory(3)

    def test_with_a_key_that_both_have(self):
        self.assert_arrives("tcp:127.0.0.1:0", self.ram("source", 8 * MIB), self.ram("destination", 8 * MIB), ["--psk", self.key()])
        self.assert_same_memory()

    def test_with_certificates(self):
        here, there = self.certificates()
        self.assert_arrives("tcp:127.0.0.1:0", [*here, *self.ram("source", 8 * MIB), "--channels", "3"],
                            [*there, *self.ram("destination", 8 * MIB)])
        self.assert_same_memory()
        self.assert_arrives("tcp:127.0.0.1:0", [*here, *self.ram("source", MIB), "--tls-peer-name", "tide.destination"],
                            [*there, *self.ram("destination", MIB)])
        self.assert_same_memory()

    def test_over_a_unix_socket(self):
        self.assert_arrives("unix:" + self.path("socket"), self.ram("source", 8 * MIB), self.ram("destination", 8 * MIB))
        self.assert_same_memory()
        self.assertFalse(os.path.exists(self.path("socket")))

    def test_memory_is_handed_over(self):
        left, arrived = self.assert_arrives("fd:" + self.path("socket"), ["--memory", "64MiB"])
        self.assertEqual(left[-1]["bytes"], 64 * MIB)
        self.assertEqual(left[-1]["sent_bytes"], 0)
        self.assertEqual(of(arrived, "arrived")[0]["received_bytes"], 0)

    def test_out_of_a_file(self):
        snapshot = self.path("snapshot")
        status, left, err = self.migrate("file:" + snapshot, *self.ram("source", 8 * MIB, MIB))
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(left[-1]["event"], "summary")
        restored = self.start("receive", "file:" + snapshot, "--json", *self.ram("destination", 8 * MIB, MIB)).end()
        self.assertEqual(restored[::2], (0, ""))
        self.assertEqual([event["event"] for event in restored[1]], ["arrived"])
        self.assert_same_memory(2)

    def test_what_a_cpu_dirties_meanwhile(self):
        # The first round takes half a second, in which 8 MiB come that cannot go within 50 ms.
        here = [*self.ram("source", 32 * MIB), "--cpu-rate", "16MiB", "--bandwidth", "32MiB", "--compression", "none", "--downtime-ms", "50"]
        left, _ = self.assert_arrives("unix:" + self.path("socket"), here, self.ram("destination", 32 * MIB))
        self.assert_same_memory()
        self.assertGreater(left[-1]["rounds"], 1)
        self.assertGreater(left[-1]["sent_bytes"], 32 * MIB)
        self.assertTrue(any(event["dirty_bytes_per_s"] > 0 for event in of(left, "progress")))

    def test_a_device_goes_along_with_its_state(self):
        here = [*self.ram("source", 16 * MIB), "--device-rate", "32MiB", "--bandwidth", "64MiB", "--compression", "none"]
        left, arrived = self.assert_arrives("unix:" + self.path("socket"), here, self.ram("destination", 16 * MIB), ["--device", DEVICE])
        self.assert_same_memory()
        self.assertEqual(of(left, "device"), of(arrived, "device"))
        self.assertEqual(of(left, "device")[0]["name"], DEVICE)
        self.assertGreater(of(left, "device")[0]["doorbells"], 0)
        self.assertGreater(left[-1]["device_bytes"], 0)

    def test_a_device_comes_out_of_a_file(self):
        snapshot = "file:" + self.path("snapshot")
        status, left, err = self.migrate(snapshot, "--memory", "16MiB", "--device", DEVICE)
        self.assertEqual((status, err), (0, ""))
        status, arrived, err = self.start("receive", snapshot, "--json", "--device", DEVICE).end()
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(of(left, "device"), of(arrived, "device"))

    def test_a_device_is_handed_over(self):
        left, arrived = self.assert_arrives("fd:" + self.path("socket"), ["--memory", "16MiB"], both=["--device", DEVICE])
        self.assertEqual(of(left, "device"), of(arrived, "device"))

    def test_settings_of_a_file(self):
        self.key()
        config = self.file("mine.toml", f'[identity]\npsk = "{self.path("key")}"\n[guest]\nmemory = "4MiB"\n'
                                        "[migration]\nchannels = 2\n".encode())
        left, _ = self.assert_arrives("tcp:127.0.0.1:0", both=["--config", config])
        self.assertEqual((left[-1]["channels"], left[-1]["bytes"]), (2, 4 * MIB))


class Shows(Case):
    def test_a_page_that_a_parser_reads(self):
        page = self.path("page.html")
        self.assert_arrives("unix:" + self.path("socket"), ["--memory", "8MiB", "--report", page])
        self.assertEqual(tree.parse(page).getroot().tag, "{http://www.w3.org/1999/xhtml}html")

    def test_a_page_of_one_that_failed(self):
        page = self.path("page.html")
        self.assert_one_line(["migrate", "unix:" + self.path("nobody"), "--memory", "1MiB", "--report", page], "no socket")
        self.assertIn("there is no socket at unix:" + self.path("nobody"), "".join(tree.parse(page).getroot().itertext()))

    def test_a_page_that_cannot_be_written_is_said_before_anything_begins(self):
        destination, address = self.receive("unix:" + self.path("socket"))
        self.assert_one_line(["migrate", address, "--memory", "1MiB", "--report", self.path("none/page")], "--report", "none/page")
        self.assertEqual(self.migrate(address, "--memory", "1MiB")[0], 0)
        self.assertEqual(destination.end()[0], 0)

    def test_lines_for_a_person(self):
        destination = self.start("receive", "unix:" + self.path("socket"), "--device", DEVICE)
        listening = destination.process.stdout.readline()
        self.assertIn("Listening at unix:" + self.path("socket"), listening)
        command = listening.rpartition("tidemark ")[2].split()
        source = subprocess.run([TOOL, *command, "--memory", "8MiB"], capture_output=True, text=True, timeout=60)
        self.assertEqual((source.returncode, source.stderr), (0, ""))
        out, err = destination.process.communicate(timeout=60)
        self.assertEqual((destination.process.returncode, err), (0, ""))
        for word in ("round 1", "stop-and-copy", "blackout", "sent"):
            self.assertIn(word, source.stdout)
        self.assertRegex(out, r"The guest arrived: \d+(\.\d+)? MiB of pages\n")
        (stopped,) = re.findall(DEVICE + r" stopped after (\d+) doorbells", source.stdout)
        self.assertIn(f"{DEVICE} goes on after {stopped} doorbells", out)
        for text in (source.stdout, out):
            self.assertNotIn("\033", text)

    def test_the_source_is_started_with_what_the_destination_prints(self):
        def printed(*words):
            destination = self.start("receive", *words)
            line = destination.process.stdout.readline()
            return destination, line.rpartition("start the source with: tidemark ")[2].split()

        destination, command = printed("tcp:127.0.0.1:0", "--plain", "--device", DEVICE)
        source = subprocess.run([TOOL, *command, "--memory", "1MiB"], capture_output=True, text=True, timeout=60)
        self.assertEqual((source.returncode, source.stderr), (0, ""))
        self.assertEqual(destination.process.wait(60), 0)
        _, command = printed("tcp:0.0.0.0:0", "--psk", self.key(), *self.ram("destination", MIB, MIB))
        self.assertRegex(" ".join(command), "^migrate tcp:" + re.escape(socket.gethostname()) + r":\d+ --psk FILE --ram FILE --ram FILE$")

    def test_memory_that_is_handed_over_is_no_traffic(self):
        destination, address = self.receive("fd:" + self.path("socket"))
        source = subprocess.run([TOOL, "migrate", address, "--memory", "4MiB"], capture_output=True, text=True, timeout=60)
        self.assertEqual((source.returncode, source.stderr), (0, ""))
        self.assertRegex(source.stdout, r"handed over +4\.00 MiB in ")
        self.assertNotIn("on the wire", source.stdout)
        self.assertEqual(destination.end()[0], 0)

    def test_every_event_has_its_name(self):
        left, arrived = self.assert_arrives("unix:" + self.path("socket"), ["--memory", "8MiB"], both=["--device", DEVICE])
        self.assertEqual([event["event"] for event in arrived], ["listening", "arrived", "device"])
        self.assertEqual({event["event"] for event in left}, {"progress", "device", "summary"})
        self.assertEqual([event["event"] for event in left][-2:], ["device", "summary"])


class Refuses(Case):
    """In one clear line, and a destination that was not asked by its own source goes on listening."""

    def assert_goes_on(self, destination, address, *words):
        """It refused a connection, and takes the right one in."""
        status, left, err = self.migrate(address, "--memory", "1MiB", *words)
        self.assertEqual((status, err), (0, ""), left[-1])
        status, arrived, err = destination.end()
        self.assertEqual(status, 0, err)
        self.assertEqual(arrived[-1]["event"], "arrived")
        return err

    def test_nobody_listens(self):
        self.assert_one_line(["migrate", "unix:" + self.path("nobody"), "--memory", "1MiB"], self.path("nobody"),
                             "start the destination first", "the guest runs on here")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        self.assert_one_line(["migrate", f"tcp:127.0.0.1:{port}", "--plain", "--memory", "1MiB"], f"nothing listens at 127.0.0.1:{port}")

    def test_another_key(self):
        good, bad = self.key("good"), self.key("bad", seed=2)
        destination, address = self.receive("tcp:127.0.0.1:0", "--psk", good)
        self.assert_one_line(["migrate", address, "--memory", "1MiB", "--psk", bad], "key", "the guest runs on here")
        self.assertIn("refused a connection", self.assert_goes_on(destination, address, "--psk", good))

    def test_tls_against_plain(self):
        destination, address = self.receive("tcp:127.0.0.1:0", "--plain")
        self.assert_one_line(["migrate", address, "--memory", "1MiB", "--psk", self.key(), *self.PATIENT], "not TLS", "the guest runs on here")
        self.assertIn("refused a connection", self.assert_goes_on(destination, address, "--plain"))

    def test_plain_against_tls(self):
        destination, address = self.receive("tcp:127.0.0.1:0", "--psk", self.key())
        self.assert_one_line(["migrate", address, "--memory", "1MiB", "--plain", *self.PATIENT], "the peer refused", "not TLS", "the guest runs on here")
        self.assertIn("refused a connection", self.assert_goes_on(destination, address, "--psk", self.path("key")))

    def test_many_channels_that_are_refused(self):
        """Each has a thread of its own, which may come last to what it was to do."""
        destination, address = self.receive("tcp:127.0.0.1:0", "--psk", self.key())
        words = ["migrate", address, "--memory", "1MiB", "--plain", "--channels", "64", *self.PATIENT]
        spoils_what_is_freed = dict(os.environ, MALLOC_PERTURB_="165")
        for turn in range(30):
            with self.subTest(turn):
                source = subprocess.run([TOOL, *words], capture_output=True, text=True, timeout=60, env=spoils_what_is_freed)
                self.assertEqual((source.returncode, len(source.stderr.splitlines())), (1, 1), source.stderr)
        self.assert_goes_on(destination, address, "--psk", self.path("key"))

    def test_a_certificate_that_another_authority_signed(self):
        here, there = self.certificates()
        strangers, _ = self.certificates("other-")
        destination, address = self.receive("tcp:127.0.0.1:0", *there)
        for known in ([*strangers[:4], *here[4:]], strangers):  # the destination does not know it; nor the source the destination
            self.assert_one_line(["migrate", address, "--memory", "1MiB", "--recovery-ms", "0", *known], "certificate", "the guest runs on here")
        self.assertIn("refused a connection", self.assert_goes_on(destination, address, *here))

    def test_a_certificate_of_another_name(self):
        here, there = self.certificates()
        destination, address = self.receive("tcp:127.0.0.1:0", *there)
        self.assert_one_line(["migrate", address, "--memory", "1MiB", "--recovery-ms", "0", "--tls-peer-name", "tide.elsewhere", *here],
                             "tide.elsewhere", "the guest runs on here")
        self.assert_goes_on(destination, address, *here)

    def test_strangers(self):
        tls_hello = bytes.fromhex("160301003d010000390303") + bytes(54)
        for words in (["--plain"], ["--psk", self.key()]):
            with self.subTest(words[0]):
                destination, address = self.receive("tcp:127.0.0.1:0", *words)
                where = ("127.0.0.1", int(address.rpartition(":")[2]))
                for garbage in (b"", b"GET / HTTP/1.1\r\nHost: tide\r\n\r\n", random.Random(3).randbytes(100000), bytes(48), tls_hello):
                    with socket.create_connection(where) as stranger:
                        try:
                            stranger.sendall(garbage)
                            stranger.shutdown(socket.SHUT_WR)
                            while stranger.recv(4096):
                                pass
                        except OSError:
                            pass  # it was thrown out
                self.assertIn("refused a connection", self.assert_goes_on(destination, address, *words))

    def test_ram_files_of_other_sizes(self):
        for sizes, word in (((MIB,), "1048576"), ((2 * MIB, MIB), "RAM block")):
            with self.subTest(sizes=sizes):
                destination, address = self.receive("unix:" + self.path("socket"), *self.ram("destination", *sizes))
                self.assert_one_line(["migrate", address, "--memory", "2MiB"], word, "the guest runs on here")
                status, events, err = destination.end()
                self.assertEqual((status, err), (1, ""))
                self.assertIn(word, events[-1]["why"])
                self.assertEqual(events[-1]["guest"], "the guest does not run here")

    def test_files_that_are_not_there(self):
        nowhere = self.path("nowhere")
        snapshot = "file:" + self.path("snapshot")
        self.assertEqual(self.migrate(snapshot, "--memory", "1MiB")[0], 0)
        for words in (["migrate", snapshot, "--ram", nowhere], ["receive", snapshot, "--ram", nowhere],
                      ["migrate", "tcp:127.0.0.1:1", "--psk", nowhere, "--memory", "1MiB"], ["receive", "tcp:127.0.0.1:0", "--psk", nowhere],
                      ["receive", "file:" + nowhere], ["migrate", "file:" + nowhere + "/snapshot", "--memory", "1MiB"],
                      ["receive", "unix:" + nowhere + "/socket"]):
            with self.subTest(" ".join(words)):
                self.assertNotIn("recovering", self.assert_one_line(words, nowhere).stdout)

    def test_ram_files_that_are_no_memory(self):
        odd = self.file("odd", bytes(5000))
        self.assert_one_line(["migrate", "file:" + self.path("snapshot"), "--ram", odd], "--ram", odd, "whole pages")
        self.assert_one_line(["migrate", "file:" + self.path("snapshot"), "--ram", self.folder], "--ram", self.folder)

    def test_a_device_that_is_not_there(self):
        for words in (["migrate", "file:" + self.path("snapshot"), "--memory", "1MiB"], ["receive", "unix:" + self.path("socket")]):
            self.assert_one_line([*words, "--device", "tidemark-test.99"], "tidemark-test.99")

    def test_a_device_at_one_side_alone(self):
        for here, there in (([], ["--device", DEVICE]), (["--device", DEVICE], [])):
            with self.subTest(here=here):
                destination, address = self.receive("unix:" + self.path("socket"), *there)
                self.assert_one_line(["migrate", address, "--memory", "1MiB", *here], "device", "the guest runs on here")
                self.assertEqual(destination.end()[0], 1)

    def test_a_key_that_others_may_read(self):
        key = self.key()
        os.chmod(key, 0o644)
        self.assert_one_line(["receive", "tcp:127.0.0.1:0", "--psk", key], key)

    def test_a_damaged_snapshot(self):
        snapshot = self.path("snapshot")
        self.assertEqual(self.migrate("file:" + snapshot, *self.ram("source", MIB))[0], 0)
        whole = self.read(snapshot)
        at = len(whole) // 2
        flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:]
        for name, content in (("flipped", flipped), ("cut", whole[:at]), ("empty", b""), ("text", b"no snapshot\n" * 1000)):
            with self.subTest(name):
                path = self.file(name, content)
                self.assert_one_line(["receive", "file:" + path], path)


class Breaks(Case):
    SLOW = ("--bandwidth", "4MiB", "--compression", "none", "--batch-pages", "64")

    def start_source(self, address, *words):
        """A migration that is under way, and would take long."""
        source = self.start("migrate", address, "--json", *words)
        source.until(lambda event: event.get("sent_bytes", 0) > 0)
        return source

    def test_a_destination_that_is_killed(self):
        destination, address = self.receive("unix:" + self.path("socket"))
        source = self.start_source(address, "--memory", "64MiB", "--recovery-ms", "100", *self.SLOW)
        destination.process.kill()
        status, events, err = source.end()
        self.assertEqual((status, err), (1, ""))
        self.assertEqual(events[-1]["event"], "failed")
        self.assertIn("the guest runs on here", events[-1]["guest"])

    def test_a_source_that_is_killed(self):
        destination, address = self.receive("unix:" + self.path("socket"))
        source = self.start_source(address, "--memory", "64MiB", "--recovery-ms", "100", *self.SLOW)
        source.process.kill()
        status, events, err = destination.end()
        self.assertEqual((status, err), (1, ""))
        self.assertEqual(events[-1]["guest"], "the guest does not run here")

    def test_a_connection_that_is_made_anew(self):
        for channels in ("1", "3"):
            with self.subTest(channels=channels):
                destination, address = self.receive("tcp:127.0.0.1:0", "--plain", "--device", DEVICE, *self.ram("destination", 32 * MIB))
                relay = Relay(("127.0.0.1", int(address.rpartition(":")[2])), cut_after=2 * MIB)
                self.addCleanup(relay.close)
                status, left, err = self.migrate(relay.address, "--plain", "--channels", channels, "--compression", "none", "--device", DEVICE,
                                                 *self.ram("source", 32 * MIB))
                self.assertEqual((status, err), (0, ""), left[-1])
                status, arrived, err = destination.end()
                self.assertEqual(status, 0, err)
                self.assert_same_memory()
                self.assertTrue(relay.cut.is_set())
                self.assertEqual(left[-1]["recoveries"], 1)
                self.assertEqual(of(left, "device"), of(arrived, "device"))

    def start_undecided(self, *words):
        """The last word of the destination is lost: nobody can say at the source where the guest runs."""
        destination, address = self.receive("tcp:127.0.0.1:0", "--plain")
        relay = Relay(("127.0.0.1", int(address.rpartition(":")[2])), lose_running=True)
        self.addCleanup(relay.close)
        source = self.start("migrate", relay.address, "--plain", "--json", "--memory", "1MiB", *words)
        self.assertTrue(relay.cut.wait(60))
        return destination, source

    def test_the_last_word_is_lost(self):
        destination, source = self.start_undecided("--recovery-ms", "100")
        status, events, err = source.end()
        self.assertEqual((status, err), (1, ""))
        self.assertIn("the guest stays paused here", events[-1]["guest"])
        self.assertEqual(destination.end()[0], 0)

    def test_a_signal_cancels_the_migration(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number.name):
                destination, address = self.receive("unix:" + self.path(number.name))
                source = self.start_source(address, "--memory", "64MiB", *self.SLOW, *self.PATIENT)
                source.process.send_signal(number)
                status, events, err = source.end()
                self.assertEqual((status, err), (1, ""))
                self.assertIn("the migration was cancelled", events[-1]["why"])
                self.assertIn("the guest runs on here", events[-1]["guest"])
                status, events, err = destination.end()
                self.assertEqual(status, 1)
                self.assertIn("the migration was cancelled", events[-1]["why"])
                self.assertEqual(events[-1]["guest"], "the guest does not run here")

    def test_a_cancelled_source_is_heard_behind_all_that_is_on_its_way(self):
        """Megabytes, where something slower than the source is between."""
        for turn in range(12):
            with self.subTest(turn):
                destination, address = self.receive("tcp:127.0.0.1:0", "--plain")
                relay = Relay(("127.0.0.1", int(address.rpartition(":")[2])))
                self.addCleanup(relay.close)
                to = (address, relay.address)[turn % 2]
                channels = ("1", "4")[turn // 2 % 2]
                source = self.start_source(to, "--plain", "--memory", "512MiB", "--compression", "none", "--channels", channels, *self.PATIENT)
                source.process.send_signal(signal.SIGINT)
                status = source.end()[0]
                events = destination.end()[1]
                if status != 0:  # the signal may have come too late
                    self.assertIn("the migration was cancelled", events[-1]["why"])

    def test_a_signal_cancels_a_snapshot(self):
        source = self.start_source("file:" + self.path("snapshot"), "--memory", "64MiB", *self.SLOW)
        source.process.send_signal(signal.SIGINT)
        status, events, err = source.end()
        self.assertEqual((status, err), (1, ""))
        self.assertIn("the migration was cancelled", events[-1]["why"])
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_signal_ends_listening(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number.name):
                destination = self.start("receive", "unix:" + self.path("socket"))
                destination.process.stdout.readline()
                destination.process.send_signal(number)
                out, err = destination.process.communicate(timeout=60)
                self.assertEqual((destination.process.returncode, out), (1, ""))
                self.assertEqual(len(err.splitlines()), 1, err)
                self.assertIn("the guest does not run here", err)
                self.assertFalse(os.path.exists(self.path("socket")))

    def test_a_signal_at_the_destination_leaves_the_guest_at_the_source(self):
        destination, address = self.receive("unix:" + self.path("socket"))
        source = self.start_source(address, "--memory", "64MiB", *self.SLOW)
        destination.process.send_signal(signal.SIGTERM)
        self.assertEqual(destination.end()[0], 1)
        status, events, err = source.end()
        self.assertEqual((status, err), (1, ""))
        self.assertIn("the guest runs on here", events[-1]["guest"])

    def test_a_second_signal_ends_the_process(self):
        # From the hand-over on there is nothing to cancel: the first is heard, and nothing comes of it.
        _, source = self.start_undecided(*self.PATIENT)
        bit = 1 << (signal.SIGINT - 1)
        self.assertTrue(source.signals_blocked() & bit)
        source.process.send_signal(signal.SIGINT)
        wait_until(lambda: not source.signals_blocked() & bit)
        source.process.send_signal(signal.SIGINT)
        self.assertEqual(source.process.wait(60), -signal.SIGINT)


if __name__ == "__main__":
    TOOL = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
