"""Racks for measurements, and how commands are timed on them."""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BRAMBLE = ROOT / "target/release/bramble"
CROWD = ROOT / "target/release/crowd"
OUT = Path(os.environ.get("OUT", ROOT / "docs/performance"))


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def run(*command, **options):
    """Runs a command that must succeed, and returns what it printed."""
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"{command} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass
class Timed:
    """What a command took: seconds, seconds of the processor on this side, KiB of its largest process."""

    seconds: float
    cpu: float
    memory: int
    code: int
    output: str

    def record(self):
        return {"seconds": round(self.seconds, 4), "cpu": round(self.cpu, 4), "memory": self.memory}


def timed(command, codes=(0,), **options):
    """Runs and times a command; its processes on this machine count, those on the nodes do not.

    GNU time stands in between, since a process that Python starts is charged with Python's own memory."""
    with tempfile.TemporaryFile("w+") as log, tempfile.NamedTemporaryFile("r") as figures:
        words = ["/usr/bin/time", "-q", "-o", figures.name, "-f", "%e %U %S %M", *map(str, command)]
        before = time.monotonic()
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **options)
        seconds = time.monotonic() - before
        log.seek(0)
        output = log.read()
        if done.returncode not in codes:
            raise SystemExit(f"{command} failed ({done.returncode}):\n{output[-4000:]}")
        _, user, system, memory = figures.read().split()
    return Timed(seconds, float(user) + float(system), int(memory), done.returncode, output)


class Rack:
    """A virtual rack of boards without Kubernetes, named after what works on it."""

    def __init__(self, name, nodes, subnet, work, state=None):
        self.name, self.count, self.subnet, self.state = name, nodes, subnet, state
        self.dir = Path(work) / name

    def lab(self, *arguments):
        state = ["--state", self.state] if self.state else []
        return run(BRAMBLE, "-q", "lab", *state, *arguments)

    def up(self):
        self.down()
        shutil.rmtree(self.dir, ignore_errors=True)
        self.lab(
            # Without cloud-init there is no first boot whose end had to be waited for.
            "up", "--name", self.name, "--bare", "--system", "bookworm", "--passwordless-sudo", "--control-planes", "0", "--workers", self.count,
            "--subnet", f"{self.subnet}.0/24", "--dir", self.dir,
        )  # fmt: skip
        return self

    def down(self):
        racks = Path(self.state or "/var/lib/bramble-lab") / "racks" / self.name
        if racks.exists():
            self.lab("down", self.name)

    @property
    def file(self):
        return self.dir / "bramble.yaml"

    @property
    def key(self):
        return next(line for line in self.file.read_text().splitlines() if "keys:" in line).split("[")[1].rstrip("]")

    @property
    def nodes(self):
        return [(f"{self.name}-{n}", f"{self.subnet}.{49 + n}") for n in range(1, self.count + 1)]

    @property
    def hosts_lines(self):
        return "\n".join(f"{address} {name}" for name, address in self.nodes)

    @property
    def known_hosts(self):
        return self.dir / ".bramble/known_hosts"

    @property
    def ssh_options(self):
        return ["-F", "none", "-i", self.key, "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.known_hosts}"]

    def bramble(self, *arguments):
        return [BRAMBLE, "-q", "-f", self.file, *arguments]

    @property
    def bridge(self):
        return "bl" + hashlib.sha256(self.name.encode()).hexdigest()[:6]


def parallel_ssh(rack, command, script=None):
    """One shell that runs ssh on all nodes at once and waits for all: what speed can be had with OpenSSH."""
    options = " ".join(rack.ssh_options)
    lines = ["set -e", "pids="]
    for name, address in rack.nodes:
        source = f" <{script}" if script else " </dev/null"
        lines.append(f"ssh {options} pi@{address} {command(name)!s} >/dev/null{source} & pids=\"$pids $!\"")
    lines.append("for p in $pids; do wait $p; done")
    return ["sh", "-c", "\n".join(lines)]


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def save(name, data):
    OUT.mkdir(parents=True, exist_ok=True)
    data["machine"] = {"cores": os.cpu_count(), "kernel": os.uname().release}
    (OUT / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
