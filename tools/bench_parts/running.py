# SPDX-License-Identifier: Apache-2.0
"""What every bench of tools/bench needs: where things are, the build, and programs that are run."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILT = ROOT / "build" / "release"
PICTURES = ROOT / "build" / "bench"


class Failed(Exception):
    """One clear line; tools/bench prints it and ends with status 1."""


def build(*targets):
    subprocess.run([ROOT / "tools" / "build", "release", *targets], check=True, stdout=sys.stderr)


def show(command, good=(0,)):
    """Runs it, shows its tables, and gives what its JSON lines say. `good`: exit statuses of a run that measured."""
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    told = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    print("".join(line + "\n" for line in run.stdout.splitlines() if not line.startswith("{")), flush=True)
    if run.returncode not in good or not told:
        raise Failed(f"{command[0]} ended with status {run.returncode}")
    return told


def bound_to_us(command):
    """The command, to be killed by the kernel when this process ends, however that ends."""
    return ["setpriv", "--pdeathsig", "KILL", *(str(word) for word in command)]


def end(process):
    """Ends a process that was started here, by its id, and leaves no zombie."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
