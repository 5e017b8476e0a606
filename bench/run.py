#!/usr/bin/env python3
"""All measurements of docs/performance.md: `make bench`, or some of them: `make bench PARTS="w23 spread"`.

Raw figures go to docs/performance/*.json, tables to standard output, plots beside the figures. Needs root, two cores,
16 GB of memory and a Debian mirror; Ansible, pyinfra and matplotlib are installed into a virtual environment of their
own below target/."""

import argparse
import os
import subprocess
import sys
import tempfile

import crowd
import flash
import handshake
import rack
import spread
import w23
from rack import ROOT, raise_file_limit, run, say

VENV = ROOT / "target/bench-venv"
PARTS = ["w23", "spread", "handshake", "crowd", "sshd", "ready", "flash", "report"]


def ensure_venv():
    wanted = (ROOT / "bench/requirements.txt").read_text()
    stamp = VENV / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        say("installing the peers")
        run(sys.executable, "-m", "venv", "--clear", VENV)
        run(VENV / "bin/pip", "install", "-q", "-r", ROOT / "bench/requirements.txt")
        stamp.write_text(wanted)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="one run of each: to see that the harness works")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    if os.geteuid() != 0:
        parser.error("racks need root")
    os.chdir(ROOT)
    raise_file_limit()
    ensure_venv()
    quick = arguments.quick
    if quick:
        # Figures of one run are none to keep.
        rack.OUT = ROOT / "target/bench-quick"
    os.environ["OUT"] = str(rack.OUT)
    with tempfile.TemporaryDirectory(prefix="bramble-bench.") as work:
        for part in arguments.parts or PARTS:
            say(f"== {part}")
            if part == "w23":
                w23.measure(work, VENV, colds=1 if quick else 3, warms=1 if quick else 5)
            elif part == "ready":
                subprocess.run(["bench/ready.sh", "1" if quick else "3"], check=True)
            elif part == "handshake":
                handshake.measure(work, runs=1 if quick else 15)
            elif part == "crowd":
                crowd.measure(work, **({"counts": (50, 100), "turns": 1} if quick else {}))
            elif part == "sshd":
                crowd.measure_sshd(work, **({"counts": (20,), "turns": 1} if quick else {}))
            elif part == "spread":
                spread.measure(work, **({"runs": 1, "direct": ()} if quick else {}))
            elif part == "flash":
                flash.measure(work, runs=1 if quick else 3)
            elif part == "report":
                subprocess.run([VENV / "bin/python", "bench/report.py"], check=True)


if __name__ == "__main__":
    main()
