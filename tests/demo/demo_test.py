#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tidemark demo from outside: what it prints, how it ends, what it survives.

    demo_test.py TIDEMARK     runs what this machine can show; in the guest (TIDEMARK_GUEST=1), what needs a real kernel's VFIO
"""

import ctypes
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

TOOL = ""
IN_GUEST = os.environ.get("TIDEMARK_GUEST") == "1"
MIB = 1 << 20


def demo(*options, **more):
    """Runs it to its end."""
    return subprocess.run([TOOL, "demo", *options], capture_output=True, text=True, timeout=120, **more)


def start(*options):
    return subprocess.Popen([TOOL, "demo", "--json", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def summary(run):
    return json.loads(run.stdout.splitlines()[-1])


def sanitized():
    """Whether the tool was built with a sanitizer, whose own memory is not what we count."""
    with open(TOOL, "rb") as file:
        return b"__asan_" in (content := file.read()) or b"__tsan_" in content


def refuse_io_uring():
    """In the child before it becomes the tool: the kernel answers EPERM to io_uring_setup, as a container's seccomp profile does."""
    load_number, equals_setup, allow, refuse = (0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)
    program = b"".join(struct.pack("HBBI", *line) for line in (load_number, equals_setup, refuse, allow))
    code = ctypes.create_string_buffer(program)
    filter_of = struct.pack("HxxxxxxQ", 4, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    pr_set_no_new_privs, pr_set_seccomp, mode_filter = 38, 22, 2
    if libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0) or libc.prctl(pr_set_seccomp, mode_filter, filter_of, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


class OneClearLine(unittest.TestCase):
    """What every refusal has in common."""

    def assert_refused(self, run, status, *words):
        self.assertEqual(run.returncode, status, run.stderr)
        self.assertEqual(len(run.stderr.splitlines()), 1, run.stderr)
        for word in words:
            self.assertIn(word, run.stderr)
        self.assertNotIn("identical", run.stdout)


@unittest.skipIf(IN_GUEST, "the guest's processors are emulated; it runs the cases that need it")
class MainJob(OneClearLine):
    def test_ends_in_identical(self):
        run = demo("--memory", "96MiB", "--blocks", "3")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(run.stdout.splitlines()[-1], "identical")
        for word in ("round 1", "dirtied", "bandwidth", "remaining", "blackout", "stop-and-copy"):
            self.assertIn(word, run.stdout)

    def test_everything_that_dirties_memory_is_at_work(self):
        run = demo("--memory", "192MiB", "--bandwidth", "128MiB", "--region-changes", "100", "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        said = summary(run)
        self.assertTrue(said["identical"])
        for name in ("cpu_dirtied_bytes", "device_dirtied_bytes", "region_changes"):
            self.assertGreater(said[name], 0, name)
        self.assertGreater(said["sent_bytes"], 192 * MIB)

    def test_one_flipped_byte_at_the_destination_fails_it(self):
        run = demo("--memory", "32MiB", "--inject", "flip-byte")
        self.assert_refused(run, 1, "memory differ", "ram0")

    def test_memory_smaller_than_what_comes_and_goes(self):
        run = demo("--memory", "16KiB")
        self.assertEqual(run.returncode, 0, run.stderr)

    def test_does_not_poll(self):
        with tempfile.NamedTemporaryFile() as trace:
            calls = "epoll_wait,epoll_pwait,epoll_pwait2,epoll_ctl,epoll_create1,poll,ppoll,select,pselect6,io_uring_enter"
            tracer = ["strace", "-f", "-o", trace.name, "-e", "trace=" + calls, TOOL, "demo", "--memory", "32MiB"]
            # Leak sanitizer does not work under strace.
            run = subprocess.run(tracer, capture_output=True, text=True, timeout=120, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
            self.assertEqual(run.returncode, 0, run.stderr)
            seen = re.findall(r"^\d+ +(\w+)\(", trace.read().decode(), re.MULTILINE)
        self.assertIn("io_uring_enter", seen)
        self.assertEqual({name for name in seen if name != "io_uring_enter"}, set())

    def test_each_side_needs_the_memory_and_little_more(self):
        if sanitized():
            self.skipTest("a sanitizer's own memory is in the figure")
        said = summary(demo("--memory", "512MiB", "--bandwidth", "unlimited", "--json"))
        for side in ("source", "destination"):
            self.assertLessEqual(said[side + "_memory_peak_bytes"], 1.1 * 512 * MIB, side)


@unittest.skipIf(IN_GUEST, "as above")
class BadInput(OneClearLine):
    def test_unknown_option(self):
        self.assert_refused(demo("--bogus"), 2, '"--bogus"', "--help")

    def test_memory_of_no_whole_pages(self):
        self.assert_refused(demo("--memory", "100000001"), 2, "--memory", "multiple")

    def test_no_destination_there(self):
        self.assert_refused(demo("--role", "source", "--address", "127.0.0.1:1", "--memory", "1MiB"), 1, "nothing listens at 127.0.0.1:1")

    def test_no_io_uring(self):
        self.assert_refused(demo(preexec_fn=refuse_io_uring), 1, "io_uring", "seccomp")

    def test_no_such_device(self):
        self.assert_refused(demo("--kernel", "linux", "--device", "tidemark-test.99"), 1, "tidemark-test.99/iommu_group", "doctor")


@unittest.skipIf(IN_GUEST, "as above")
class TwoProcesses(unittest.TestCase):
    def start_destination(self):
        destination = start("--role", "destination")
        self.addCleanup(destination.communicate)
        self.addCleanup(destination.kill)
        return destination, json.loads(destination.stdout.readline())["address"]

    def start_source(self, address, memory="64MiB"):
        source = start("--role", "source", "--address", address, "--memory", memory, "--bandwidth", "4MiB")
        self.addCleanup(source.communicate)
        self.addCleanup(source.kill)
        self.assertEqual(json.loads(source.stdout.readline())["event"], "begin")
        while json.loads(source.stdout.readline()).get("sent_bytes", 0) == 0:
            pass
        return source

    def test_the_source_says_so_and_its_guest_runs_on(self):
        destination, address = self.start_destination()
        source = self.start_source(address)
        destination.kill()
        said = json.loads(source.stdout.read().splitlines()[-1])
        self.assertEqual(source.wait(), 1)
        self.assertEqual(said["event"], "failed")
        self.assertIn("the guest runs on here, its memory and mappings as before", said["error"])

    def test_the_destination_holds_only_what_it_received(self):
        if sanitized():
            self.skipTest("a sanitizer's own memory is in the figure")
        destination, address = self.start_destination()
        self.start_source(address, memory="1GiB")
        # Some of 4 MiB a second have come; a destination that made room in advance would hold the whole GiB.
        with open(f"/proc/{destination.pid}/statm") as statm:
            resident_bytes = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.assertLess(resident_bytes, 512 * MIB)

    def test_the_destination_says_so_and_runs_no_guest(self):
        destination, address = self.start_destination()
        source = self.start_source(address)
        source.kill()
        said = json.loads(destination.stdout.read().splitlines()[-1])
        self.assertEqual(destination.wait(), 1)
        self.assertIn("the guest does not run here", said["error"])


@unittest.skipUnless(IN_GUEST, "needs a kernel with VFIO groups")
class OnRealVfio(OneClearLine):
    def test_no_permission(self):
        def become_nobody():
            os.setgid(65534)
            os.setuid(65534)

        # The checkout may lie where nobody may look, as in /root.
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            tool = shutil.copy(TOOL, folder)
            run = subprocess.run([tool, "demo", "--kernel", "linux", "--memory", "1MiB"], preexec_fn=become_nobody, cwd="/",
                                 capture_output=True, text=True, timeout=120)
        self.assert_refused(run, 1, "no permission on /dev/vfio/", "root")

    def test_no_such_device(self):
        self.assert_refused(demo("--kernel", "linux", "--device", "tidemark-test.99"), 1, "tidemark-test.99")

    def test_migrates_what_a_device_dirties_through_vfio(self):
        run = demo("--kernel", "linux", "--memory", "64MiB", "--cpu-rate", "2MiB", "--device-rate", "2MiB", "--region-changes", "50", "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        said = summary(run)
        self.assertTrue(said["identical"])
        self.assertGreater(said["device_dirtied_bytes"], 0)
        self.assertGreater(said["region_changes"], 0)


if __name__ == "__main__":
    TOOL = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
