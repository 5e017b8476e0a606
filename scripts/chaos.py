#!/usr/bin/env python3
"""Rounds of chaos: something goes wrong at a random moment of a random command, on a rack with a real Kubernetes.

Each round begins with a cluster that is well, or with boards on which nothing was done. A command is called, and while it
runs a fault comes. Then everything is mended, and a person does the only thing that a person should have to do: the same
command again. A round is good if that ends with exit code 0, the plan is empty, `status` says that all is well, the cluster
is the same one (the UID of its namespace and a ConfigMap of a user), and nothing secret was left in the folder; or if a
command refused and said why before it changed anything.

    sudo scripts/chaos.py --rounds 100 --seed 1

The choices of a round depend on the seed and its number alone. Moments are fractions of the time that a command took when
nothing went wrong, so two runs on machines of different speed are alike, not equal.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "chaos"
#: Seconds that a command may take, whatever happens.
LIMIT = 1500
#: MiB of the file system on which a board has /var/lib, and the folder of the cluster file.
BOARD_DISK, FOLDER_DISK = 4096, 64
CARRIER = hashlib.sha256(NAME.encode()).digest()[:3].hex()


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def call(*command, check=True, **options):
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{command} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done


class Running:
    """A command that runs, with its output in a file."""

    def __init__(self, chaos, command, environment=None):
        self.log = open(chaos.work / "command.log", "w+")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
            env={**os.environ, "NO_COLOR": "1", **(environment or {})},
        )

    def runs(self):
        return self.process.poll() is None

    def end(self):
        try:
            self.process.wait(max(1, LIMIT - (time.monotonic() - self.began)))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.process.returncode = "no end"
        self.seconds = time.monotonic() - self.began
        self.log.seek(0)
        self.output = self.log.read()
        self.log.close()
        return self.process.returncode

    def last_words(self):
        lines = [line for line in self.output.splitlines() if line.strip() and not line.startswith("the log of this run")]
        errors = [at for at, line in enumerate(lines) if line.startswith("error:")]
        return " ".join(line.strip() for line in lines[errors[-1] if errors else -1 :])[:300] if lines else ""


class Chaos:
    def __init__(self, program, work, seed, keep_disks):
        self.program, self.work, self.seed = program, work, seed
        self.state, self.folder = work / "lab", work / "folder"
        self.file = self.folder / "bramble.yaml"
        self.nodes = [f"{NAME}-{n}" for n in (1, 2, 3)]
        self.disks = not keep_disks
        #: What the cluster is: made at all, with its third node, at the newer release.
        self.up = self.third = self.newer = False
        self.uid = None
        #: The fewest seconds that each command took, as far as is known: with more, faults would come after its end.
        self.takes = {"up": 75, "upgrade": 90, "join": 40, "remove": 30, "backup": 1.5, "restore": 60, "down": 10}

    # The rack.

    def lab(self, *arguments, check=True):
        return call(self.program, "lab", "--state", self.state, *arguments, check=check)

    def shell(self, node, text, check=False):
        return self.lab("shell", f"{NAME}/{node}", "sh", "-c", text, check=check).stdout.strip()

    def root(self, node):
        return self.state / "racks" / NAME / "nodes" / node / "root"

    def raise_rack(self):
        self.work.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(exist_ok=True)
        call("mount", "-t", "tmpfs", "-o", f"size={FOLDER_DISK}m,mode=755", "chaos", self.folder)
        self.lab("up", "--name", NAME, "--dir", self.folder, "--passwordless-sudo", "--control-planes", "1", "--workers", "2", "--subnet", "10.78.30.0/24")
        releases = [self.lab("bundle", *more).stdout.strip() for more in ((), ("--kubernetes", "1.37"))]
        self.releases = [re.match(r"Kubernetes (\S+) is in (\S+)", text).groups() for text in releases]
        self.text = self.file.read_text()
        if self.disks:
            for node in self.nodes:
                self.give_disk(node)
        (self.folder / "key").write_bytes((self.state / "racks" / NAME / "id_ed25519").read_bytes())

    def give_disk(self, node):
        """Puts /var/lib of a board on a file system of its own, which can be full."""
        self.lab("cut", f"{NAME}/{node}")
        image, there = self.work / f"{node}.disk", self.root(node) / "var/lib"
        with open(image, "wb") as file:
            file.truncate(BOARD_DISK << 20)
        call("mkfs.ext4", "-q", "-O", "^has_journal", image)
        aside = self.work / "aside"
        aside.mkdir(exist_ok=True)
        call("mount", "-o", "loop", image, aside)
        call("cp", "-a", f"{there}/.", aside)
        call("umount", aside)
        call("mount", "-o", "loop", image, there)
        self.lab("start", f"{NAME}/{node}")

    def take_down(self):
        self.lab("down", NAME, check=False)
        for node in self.nodes:
            call("umount", "-l", self.root(node) / "var/lib", check=False)
        call("umount", "-l", self.folder, check=False)
        # What was below the mounts is only seen now.
        self.lab("down", NAME, check=False)
        shutil.rmtree(self.state / "racks" / NAME, ignore_errors=True)
        for image in self.work.glob("*.disk"):
            image.unlink()

    # The cluster.

    def write_file(self):
        (old, path), (new, new_path) = self.releases
        text = self.text
        if self.newer:
            text = text.replace(path + " ", new_path + " ").replace(old, new)
        if not self.third:
            text = "".join(line for line in text.splitlines(True) if f"name: {self.nodes[2]}," not in line)
        self.file.write_text(text)

    def bramble(self, *arguments):
        return (self.program, "-f", self.file, *arguments)

    def kubectl(self, arguments):
        return self.shell(self.nodes[0], f"kubectl --cache-dir /tmp/kc --kubeconfig /etc/kubernetes/admin.conf {arguments} 2>/dev/null")

    def identity(self):
        return self.kubectl("get namespace kube-system -o jsonpath={.metadata.uid}")

    def operations(self):
        if not self.up:
            return ["up"]
        # What takes little time comes more often: there is more to learn in an hour.
        return (
            (["remove"] * 3 if self.third else ["join"] * 3) + ["backup"] * 2 + ["restore"] * 2 + ["down"]
            + ([] if self.newer else ["upgrade"] * 2)
        )

    def begin(self, operation):
        """Writes what the cluster file says from now on, and gives the command."""
        if operation == "up":
            self.third, self.newer = False, False
        elif operation == "join":
            self.third = True
        elif operation == "remove":
            self.third = False
        elif operation == "upgrade":
            self.newer = True
        self.write_file()
        backup = self.folder / "backup"
        if operation == "restore":
            # Of the cluster as it is now: whatever was changed since would be another finding.
            done = call(*self.bramble("backup", "--to", backup), check=False)
            if done.returncode != 0:
                raise RuntimeError(f"a backup of a cluster that is well failed:\n{done.stdout}{done.stderr}")
        if operation == "down":
            return self.bramble("down", "--yes")
        if operation == "backup":
            return self.bramble("backup", "--to", backup)
        if operation == "restore":
            return self.bramble("restore", backup, "--yes")
        return self.bramble("up", f"--yes={self.nodes[2]}" if operation == "remove" else "--yes")

    def well(self, operation):
        """Says what is wrong with a cluster that should be well, or nothing."""
        if operation == "down":
            self.up, self.uid = False, None
            left = [node for node in self.nodes[:2] if self.shell(node, "ls -d /var/lib/bramble /etc/kubernetes 2>/dev/null")]
            return f"something is left on {left}" if left else None
        self.up = True
        deadline = time.monotonic() + 240
        while True:
            done = call(*self.bramble("status", "-o", "json"), check=False)
            try:
                if json.loads(done.stdout)["well"]:
                    break
            except (ValueError, KeyError):
                pass
            if time.monotonic() > deadline:
                return f"status does not say that all is well: {done.stdout[-300:]}{done.stderr[-300:]}"
            time.sleep(2)
        done = call(*self.bramble("plan"), check=False)
        if done.returncode != 0:
            return f"the plan is not empty: {(done.stdout + done.stderr)[-400:]}"
        uid = self.identity()
        if self.uid and uid != self.uid:
            return f"it is another cluster: {uid} instead of {self.uid}"
        if not self.uid:
            self.kubectl("create configmap mine --from-literal=a=b")
            self.uid = uid
        if self.kubectl("get configmap mine -o jsonpath={.data.a}") != "b":
            return "a user's ConfigMap is gone"
        members = self.kubectl("get nodes -o name").count("node/")
        if members != 2 + self.third:
            return f"there are {members} nodes"
        left = [path.name for path in (self.folder / ".bramble").iterdir() if re.search(r"state|\.new$|\.part$", path.name)]
        left += [path.name for path in self.folder.iterdir() if re.search(r"\.new$|\.part$", path.name)]
        return f"{left} is left in the folder" if left else None

    # What goes wrong. Each says what it did, and gives what mends it.

    def kill(self, running, rng):
        running.process.kill()
        return "kill -9 of bramble", lambda: None

    def terminate(self, running, rng):
        which = rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
        running.process.send_signal(which)
        return f"{which.name} to bramble", lambda: None

    def cut(self, running, rng):
        node = rng.choice(self.nodes[: 2 + self.third])
        self.lab("cut", f"{NAME}/{node}")
        time.sleep(rng.uniform(0, 5))
        self.lab("start", f"{NAME}/{node}")
        return f"power cut of {node}", lambda: None

    def carrier(self, running, rng):
        number = rng.randrange(2 + self.third)
        links = call("ip", "-o", "link", "show").stdout
        ports = sorted(re.findall(rf"\b(bl{CARRIER}p\d+)@", links))
        port, seconds = ports[number], rng.choice([3, 12, 40])
        call("ip", "link", "set", port, "down")
        time.sleep(seconds)
        call("ip", "link", "set", port, "up")
        return f"no carrier at {self.nodes[number]} for {seconds} s", lambda: None

    def hang(self, running, rng):
        node, seconds = rng.choice(self.nodes[: 2 + self.third]), rng.choice([5, 20, 60])
        self.shell(node, "pkill -STOP -x sshd")
        time.sleep(seconds)
        self.shell(node, "pkill -CONT -x sshd")
        return f"sshd of {node} hung for {seconds} s", lambda: None

    def fill_board(self, running, rng):
        node = rng.choice(self.nodes[: 2 + self.third])
        full = self.root(node) / "var/lib/full"
        free = shutil.disk_usage(full.parent).free
        call("fallocate", "-l", str(max(free - 4096, 1)), full, check=False)
        return f"disk of {node} full", lambda: full.unlink(missing_ok=True)

    def fill_folder(self, running, rng):
        full = self.folder / "full"
        with open(full, "wb") as file:
            try:
                while True:
                    file.write(bytes(65536))
                    file.flush()
            except OSError:
                pass
        return "disk of the folder full", lambda: full.unlink(missing_ok=True)

    def second(self, running, rng):
        """Another person, in a folder with or without the lock file, has the same idea."""
        other = self.work / "other"
        shutil.rmtree(other, ignore_errors=True)
        knows = rng.random() < 0.5
        other.mkdir(mode=0o700)
        for name in ("bramble.yaml", "bramble.lock", "key", ".bramble/known_hosts"):
            if (self.folder / name).exists() and (knows or name != "bramble.lock"):
                (other / name).parent.mkdir(exist_ok=True, mode=0o700)
                shutil.copy(self.folder / name, other / name)
        log = open(self.work / "other.log", "w+")
        there = [str(self.program), "-f", str(other / "bramble.yaml")]
        done = subprocess.run(
            [*there, "up", "--yes"], stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, timeout=LIMIT, env={**os.environ, "NO_COLOR": "1"},
        )
        log.seek(0)
        words = [line for line in log.read().splitlines() if line.strip()]
        why = " ".join(line for line in words if line.startswith("error") or line.startswith("  "))[-120:]
        self.adopted = other if done.returncode == 0 and knows else None
        what = f"a second controller {'with' if knows else 'without'} the lock file: exit {done.returncode} {why}"
        if done.returncode == 0 and "down" in running.process.args:
            # The boards were free by then: a cluster of the other one's is there by right, and that one takes it down.
            down = lambda: (running.process.wait(LIMIT), call(*there, "down", "--yes"))
            return f"{what}, and its cluster taken down by it", down
        return what, lambda: None

    FAULTS = ("kill", "terminate", "cut", "carrier", "hang", "fill_board", "fill_folder", "second", "clock")

    # A round.

    def round(self, number):
        rng = random.Random(f"{self.seed}-{number}")
        operation, fault = rng.choice(self.operations()), rng.choice(self.FAULTS)
        if fault == "fill_board" and not self.disks:
            fault = "kill"
        moment = rng.random()
        row = {"round": number, "operation": operation, "moment": round(moment, 2), "fault": fault}
        command = self.begin(operation)
        began = time.monotonic()
        if fault == "clock":
            # The clock of this machine is wrong for a while, by an hour or a year; that of the boards is not.
            shift = rng.choice(["+1h", "-1h", "+1y", "-10m"])
            running = Running(self, ("faketime", "-f", shift, *command), {"FAKETIME_DONT_FAKE_MONOTONIC": "1"})
            row["fault"], mend = f"clock {shift}", lambda: None
        else:
            running = Running(self, command)
            time.sleep(moment * self.takes[operation])
            if running.runs() or fault in ("second", "fill_board"):
                row["fault"], mend = getattr(self, fault)(running, rng)
            else:
                row["fault"], mend = f"{fault}: it had ended", lambda: None
        stuck = time.monotonic() + 300
        # On a disk that stays full nothing gets better: a person would make room.
        while running.runs() and time.monotonic() < stuck:
            time.sleep(0.2)
        mend()
        row["first"] = running.end()
        row["said"] = running.last_words()
        if row["first"] == 0 and fault != "second":
            self.takes[operation] = min(self.takes[operation], running.seconds)
        # Power, carrier and disks are there again: the same command once more.
        tries = 0
        code, words = row["first"], row["said"]
        while code != 0 and tries < 3:
            tries += 1
            again = Running(self, command)
            code, words = again.end(), again.last_words()
            if code != 0:
                say(f"  again: {code} {words}")
                time.sleep(10)
        row["again"] = tries
        wrong = f"still {code}: {words}" if code != 0 else self.well(operation)
        row["seconds"] = round(time.monotonic() - began)
        row["verdict"] = wrong or "good"
        say(f"{number:3} {operation:8} {row['fault']:50.90} at {moment:.2f}: {row['first']}, {tries} more, {row['seconds']} s: {row['verdict']}")
        if row["said"] and row["first"] != 0:
            say(f"      {row['said'][:200]}")
        return row


def table(rows):
    lines = ["| Round | Command | Fault | At | Exit | Runs after it | Verdict |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['round']} | {row['operation']} | {row['fault']} | {row['moment']} | {row['first']} | {row['again']} | {row['verdict']} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--first", type=int, default=1, help="the number of the first round")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/bramble")
    parser.add_argument("--work", type=Path, default=ROOT / "target/chaos")
    parser.add_argument("--no-disks", action="store_true", help="leave /var/lib on the boards' own disks: none is full then")
    arguments = parser.parse_args()
    chaos = Chaos(arguments.program, arguments.work, arguments.seed, arguments.no_disks)
    rows, bad = [], 0
    chaos.take_down()
    try:
        chaos.raise_rack()
        for number in range(arguments.first, arguments.first + arguments.rounds):
            row = chaos.round(number)
            rows.append(row)
            (arguments.work / "rounds.json").write_text(json.dumps(rows, indent=1))
            (arguments.work / "table.md").write_text(table(rows))
            if row["verdict"] != "good":
                bad += 1
                kept = arguments.work / f"round-{number}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(chaos.folder / ".bramble/log", kept)
                for node in chaos.nodes:
                    (kept / f"{node}.journal").write_text(chaos.shell(node, "journalctl -q --no-pager -n 3000"))
                say(f"      what is needed to understand it is in {kept}")
                # The next round begins from nothing.
                call(*chaos.bramble("down", "--yes"), check=False)
                for node in chaos.nodes:
                    chaos.lab("replace", f"{NAME}/{node}", "--dir", str(chaos.folder), check=False) if not chaos.disks else None
                chaos.up, chaos.uid = False, None
    finally:
        chaos.take_down()
    say(f"{len(rows)} rounds, {bad} bad; the table is in {arguments.work / 'table.md'}")
    return 1 if bad else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
