# SPDX-License-Identifier: Apache-2.0
"""QEMU's machine protocol: one command at a time, and events, over a socket that is connected already. Whatever fails is one clear line."""

import json
import select
import socket
import time

from .running import Failed

PATIENCE = 300  # seconds; a bench that waits longer for one thing has gone wrong


class Qmp:
    def __init__(self, connected, name):
        self.socket = connected
        self.name = name
        self.buffer = b""
        self.events = []
        self.next_message("the greeting")
        self.ask("qmp_capabilities")

    def close(self):
        self.socket.close()

    def next_message(self, what, deadline=None):
        """The next line. An event is kept as well."""
        deadline = deadline or time.monotonic() + PATIENCE
        while b"\n" not in self.buffer:
            if not select.select([self.socket], [], [], max(0, deadline - time.monotonic()))[0]:
                raise Failed(f"{self.name}: waited {PATIENCE} s in vain for {what}")
            try:
                got = self.socket.recv(65536)
            except OSError:
                got = b""
            if not got:
                raise Failed(f"{self.name}: QEMU ended while {what} was awaited")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        message = json.loads(line)
        if "event" in message:
            self.events.append(message)
        return message

    def ask(self, command, **arguments):
        request = {"execute": command} | ({"arguments": {name.replace("_", "-"): value for name, value in arguments.items()}} if arguments else {})
        try:
            self.socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as failure:
            raise Failed(f"{self.name}: {command} could not be sent: {failure.strerror}") from failure
        deadline = time.monotonic() + PATIENCE
        while True:
            message = self.next_message(f"the answer to {command}", deadline)
            if "error" in message:
                raise Failed(f"{self.name}: {command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]

    def wait_for(self, *events, failing=lambda event: None):
        """The first event of these (name, or name and status) that came or comes. `failing` gives a reason why waiting is in vain, or None."""
        deadline = time.monotonic() + PATIENCE
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event["event"] in events or (event["event"], event.get("data", {}).get("status")) in events:
                    return event
                if failing(event):
                    raise Failed(f"{self.name}: {failing(event)}")
            seen = len(self.events)
            self.next_message(" or ".join(str(event) for event in events), deadline)


def seconds_of(event):
    return event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] * 1e-6


def socket_pair():
    """Ours, and the one that QEMU is given."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
