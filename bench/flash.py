"""Writing disks: bramble against xz and dd, and against bmaptool, on loop devices in memory that are as fast as the machine,
and on such that are held down to the speed of a card."""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from rack import BRAMBLE, median, run, save, say, timed

SIZE = 2 << 30
CARD = 60_000_000  # bytes per second, written and read: a good card in a USB 3 reader
GROUP = Path("/sys/fs/cgroup/blkio/bramble-bench")
CLUSTER = """cluster: bench
access: {{ user: pi, keys: [key] }}
network: {{ subnet: 10.0.0.0/24, gateway: 10.0.0.1 }}
image: {{ file: image.xz }}
distribution: none
nodes:
{nodes}"""


def image(work):
    """The image of a disk, 2 GiB, of which three quarters are files of this machine, packed as Raspberry Pi OS packs its own."""
    tree, whole = work / "tree", work / "image"
    tree.mkdir()
    left = SIZE * 3 // 4
    for place in ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/bin", "/usr/lib/python3", "/usr/lib/gcc", "/usr/share"]:
        for folder, _, files in os.walk(place):
            for name in files:
                file = Path(folder, name)
                if left > 0 and file.is_file() and not file.is_symlink():
                    to = tree / str(file)[1:]
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, to)
                    left -= file.stat().st_size
    run("truncate", "-s", "256M", work / "boot")
    run("mkfs.vfat", "-F", "32", "-n", "bootfs", work / "boot")
    for name in ["cmdline.txt", "config.txt", "user-data"]:
        (work / name).write_text("\n")
        run("mcopy", "-i", work / "boot", work / name, f"::{name}")
    rest = SIZE - (260 << 20)
    run("mkfs.ext4", "-q", "-d", tree, work / "root", str(rest // 1024) + "K")
    shutil.rmtree(tree)
    run("sh", "-c", f"(head -c 4M /dev/zero; cat {work}/boot {work}/root) >{whole}")
    table = f"label: dos\nstart=8192, size={256 << 11}, type=c\nstart={260 << 11}, type=83\n"
    run("sh", "-c", f"echo '{table}' | sfdisk -q {whole}")
    run("xz", "-T0", "-3", "-k", whole)
    run("bmaptool", "create", "-o", work / "image.bmap", whole)
    (work / "boot").unlink()
    (work / "root").unlink()


@contextmanager
def disks(work, count, rate):
    made = []
    try:
        for n in range(count):
            run("truncate", "-s", str(SIZE + (64 << 20)), work / f"disk{n}")
            made.append(run("losetup", "--find", "--show", work / f"disk{n}").strip())
        if rate:
            GROUP.mkdir(exist_ok=True)
            for disk in made:
                number = os.stat(disk).st_rdev
                for what in ["read", "write"]:
                    (GROUP / f"blkio.throttle.{what}_bps_device").write_text(f"{os.major(number)}:{os.minor(number)} {rate}")
        yield made
    finally:
        for disk in made:
            run("losetup", "--detach", disk)
        for n in range(count):
            (work / f"disk{n}").unlink(missing_ok=True)
        if GROUP.exists():
            GROUP.rmdir()


def measure(work, runs=3):
    work = Path(work) / "flash"
    work.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=14G", "bench", work)
    try:
        say("making an image")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / "key")
        image(work)
        packed = (work / "image.xz").stat().st_size
        found = {}
        for name, rate in [("memory", 0), ("card", CARD)]:
            def note(kind, record):
                found.setdefault(f"{name}, {kind}", []).append(record)
                say(f"{name}, {kind}: {record['seconds']:.1f} s")

            def go(command):
                # The shell joins the group in which disks are held down, and becomes the command.
                joined = f"echo $$ >{GROUP}/cgroup.procs; exec \"$@\"" if rate else 'exec "$@"'
                return timed(["sh", "-c", joined, "sh", *command], cwd=work)

            for turn in range(runs):
                if not rate:
                    note("xz alone", timed(["sh", "-c", f"xz -T0 -dc {work}/image.xz >/dev/null"]).record())
                for threads in ["1", "0"]:
                    with disks(work, 1, rate) as (disk,):
                        pipe = f"xz -T{threads} -dc image.xz | dd of={disk} bs=4M iflag=fullblock oflag=direct conv=fsync"
                        note(f"xz -T{threads} and dd", go(["sh", "-c", pipe]).record())
                with disks(work, 1, rate) as (disk,):
                    note("bmaptool", go(["bmaptool", "-q", "copy", "--bmap", "image.bmap", "image.xz", disk]).record())
                for count in [1, 2, 4]:
                    nodes = "".join(f"  - {{ name: n{n}, role: worker, board: rpi-4b-4gb, address: 10.0.0.{50 + n} }}\n" for n in range(count))
                    (work / "bramble.yaml").write_text(CLUSTER.format(nodes=nodes))
                    with disks(work, count, rate) as made:
                        words = [word for disk in made for word in ("--disk", disk)]
                        took = go([BRAMBLE, "flash", "-y", "-o", "json", *words])
                        note(f"bramble, {count} disks, read back", took.record())
                        # What goes on is told on stderr, which stands behind it.
                        told, _ = json.JSONDecoder().raw_decode(took.output, took.output.index("{"))
                        written = max(disk["writtenSeconds"] for disk in told["disks"])
                        note(f"bramble, {count} disks, written", {**took.record(), "seconds": round(written, 4)})
        for name, records in found.items():
            say(f"{name}: {median([record['seconds'] for record in records]):.1f} s, {median([record['memory'] for record in records]) // 1024} MB")
        save("flash", {"size": SIZE, "packed": packed, "card": CARD, "runs": found})
    finally:
        subprocess.run(["umount", work], check=True)
