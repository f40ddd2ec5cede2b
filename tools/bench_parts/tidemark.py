# SPDX-License-Identifier: Apache-2.0
"""Migrations of our own tool, `tidemark receive` and `tidemark migrate`, and the plain loop of sends (bench/plain_send.cpp). All that the bench
knows of their command lines and of the lines they print is here."""

import contextlib
import json
import os
import pathlib
import secrets
import subprocess
import tempfile
import threading

from .qmp import PATIENCE
from .running import Failed, bound_to_us, end

NEEDED = ("total_ms", "blackout_ms", "predicted_blackout_ms", "rounds")


class Program:
    """One that runs: what it prints in JSON, line by line, and that it ends well. Killed when it takes too long."""

    def __init__(self, *command):
        self.name = " ".join(str(word) for word in command[:2])
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(bound_to_us(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.watchdog = threading.Timer(PATIENCE, self.process.kill)
        self.watchdog.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.watchdog.cancel()
        end(self.process)
        self.errors.close()

    def told(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                yield json.loads(line)

    def next_told(self, event):
        for told in self.told():
            if told.get("event") == event:
                return told
        raise Failed(f"{self.name} ended without a line of event {event}{self.last_words()}")

    def rest_told(self):
        """To its end, which must be a good one."""
        told = list(self.told())
        if self.process.wait() != 0:
            raise Failed(f"{self.name} ended with status {self.process.returncode}{self.last_words()}")
        return told

    def last_words(self):
        self.process.wait()
        self.errors.seek(0)
        lines = [line for line in self.errors.read().split("\n") if line]
        return f": {lines[-1]}" if lines else ""


class Tool:
    def __init__(self, program):
        self.program = program

    def migrate(self, from_options, to_options, at="tcp:127.0.0.1:0", address_of=lambda listening: listening["address"]):
        """What the source says at its end."""
        with Program(self.program, "receive", at, *to_options, "--json") as receiver:
            address = address_of(receiver.next_told("listening"))
            with Program(self.program, "migrate", address, *from_options, "--json") as sender:
                told = sender.rest_told()
            receiver.rest_told()
        return summary_of(told, sender.name)

    def throughput(self, source, destination, channels, tls=False, congestion_control="auto"):
        """Bytes of RAM a second, and the summary."""
        destination.scribble()
        with key_file() if tls else contextlib.nullcontext() as key:
            security = ["--psk", key] if tls else ["--plain"]
            asked = ["--channels", str(channels), "--compression", "none", "--congestion-control", congestion_control]
            told = self.migrate([*security, "--ram", source.path, *asked], [*security, "--ram", destination.path])
        destination.check_arrived(source, f"tidemark, {channels} channels")
        return {"bytes_per_s": source.size / (told["total_ms"] / 1000), **told}

    def blackout(self, source, destination, rate, downtime_ms):
        dirtied = ["--cpu-rate", f"{rate >> 20}MiB", "--downtime-ms", str(downtime_ms)]
        told = self.migrate(["--plain", "--ram", source.path, "--channels", "1", "--compression", "none", *dirtied], ["--plain", "--ram", destination.path])
        if not told["predicted_blackout_ms"]:
            raise Failed("tidemark migrate predicted no blackout")
        return told

    def hand_over(self, size):
        """Memory that stays where it is: its descriptor goes to the other process."""
        with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
            address = f"fd:{folder}/socket"
            return self.migrate(["--memory", f"{size >> 30}GiB"], [], address, lambda listening: address)


def summary_of(told, name):
    if not told or told[-1].get("event") != "summary":
        raise Failed(f"{name} ended without its summary")
    missing = [field for field in NEEDED if field not in told[-1]]
    if missing:
        raise Failed(f"{name}: its summary has no {', '.join(missing)}")
    return told[-1]


@contextlib.contextmanager
def key_file():
    """A pre-shared key for both sides."""
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        path = pathlib.Path(folder) / "key.psk"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(f"{secrets.token_hex(32)}\n")
        yield str(path)


def plain_send(program, source, destination, *congestion_control):
    destination.scribble()
    with Program(program, str(source.size), source.path, destination.path, "1", *congestion_control) as sender:
        told = sender.rest_told()
    destination.check_arrived(source, "the plain loop of sends")
    return told[-1]
