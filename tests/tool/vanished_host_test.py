#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A host that is gone without a word in the middle of a migration: both sides notice, and the guest goes on at the source.

    vanished_host_test.py TIDEMARK

The two hosts are network namespaces of a user namespace of the test's own. Where the kernel lets nobody make those, the test is skipped (77)."""

import json
import os
import pathlib
import signal
import subprocess
import sys

SKIPPED = 77
HERE, THERE = "10.99.0.1", "10.99.0.2"
PATIENCE_S = 120


def run(*words):
    subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=PATIENCE_S)


def over_there(process, *words):
    return ["nsenter", f"--net=/proc/{process.pid}/ns/net", *(str(word) for word in words)]


def two_hosts():
    """This namespace, and that of the process which is given back, with a wire between them."""
    there = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo made; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    there.stdout.readline()
    run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", there.pid)
    run("ip", "address", "add", f"{HERE}/24", "dev", "here")
    run("ip", "link", "set", "here", "up")
    run(*over_there(there, "ip", "address", "add", f"{THERE}/24", "dev", "there"))
    run(*over_there(there, "ip", "link", "set", "there", "up"))
    return there


def start(*words):
    return subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def next_event(process, wanted):
    for line in process.stdout:
        event = json.loads(line)
        if wanted(event):
            return event
    sys.exit(f"{process.args[:2]} ended before it said what was waited for: {process.stderr.read()}")


def check(tidemark):
    there = two_hosts()
    destination = start(*over_there(there, tidemark, "receive", f"tcp:{THERE}:7000", "--plain", "--json"))
    next_event(destination, lambda event: event["event"] == "listening")
    options = ["--memory", "256MiB", "--compression", "none", "--bandwidth", "16MiB", "--recovery-ms", "0", "--json"]
    source = start(tidemark, "migrate", f"tcp:{THERE}:7000", "--plain", *options)
    next_event(source, lambda event: event["event"] == "progress" and event["sent_bytes"] > 0)
    run(*over_there(there, "ip", "link", "set", "there", "down"))
    failed = next_event(source, lambda event: event["event"] == "failed")
    assert "stopped answering" in failed["why"], failed
    assert failed["guest"].startswith("the guest runs on here"), failed
    assert source.wait(PATIENCE_S) == 1, source.returncode
    assert destination.wait(PATIENCE_S) == 1, destination.returncode
    there.stdin.close()
    there.wait(PATIENCE_S)


def main():
    tidemark = pathlib.Path(sys.argv[1]).resolve()
    if len(sys.argv) == 2:  # again, as root of a namespace
        can = subprocess.run(["unshare", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "true"], capture_output=True)
        if can.returncode != 0:
            print("skipped: no user namespace can be made here")
            return SKIPPED
        # Whatever this leaves behind ends with the namespace of its processes.
        os.execvp("unshare", ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, __file__, str(tidemark), "inside"])
    signal.alarm(PATIENCE_S)
    check(tidemark)
    return 0


sys.exit(main())
