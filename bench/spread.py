"""One large file to 1, 4, 8 and 16 boards whose links are those of a shelf: 1 Gbit/s each, 200 Mbit/s to the controller."""

import shutil
from pathlib import Path

from rack import Rack, median, run, save, say, timed

SIZE = 300_000_000
CONTROLLER, BOARD = 200_000_000, 1_000_000_000


def shape(rack):
    def tbf(link, rate, namespace=()):
        run(*namespace, "tc", "qdisc", "replace", "dev", link, "root", "tbf",
            "rate", rate, "burst", "256kb", "latency", "50ms")  # fmt: skip

    tbf(rack.bridge, CONTROLLER)
    for index, (name, _) in enumerate(rack.nodes):
        tbf(f"{rack.bridge}p{index}", BOARD)
        tbf("eth0", BOARD, ("ip", "netns", "exec", f"bramble-{rack.name}-{name}"))


def measure(work, runs=3, counts=(1, 4, 8, 16), direct=(1, 4, 16)):
    memory = Path(work) / "memory"
    memory.mkdir(parents=True, exist_ok=True)
    # Each board has a disk of its own; here they would share one. So their disks are in memory, and that is touched
    # once before: a virtual machine gets its memory at the first touch, slowly.
    run("mount", "-t", "tmpfs", "-o", "size=14g", "bramble-bench", memory)
    rack = Rack("spread", max(counts), "10.78.30", work, memory / "lab")
    found = {}
    try:
        run("dd", "if=/dev/zero", f"of={memory}/touch", "bs=1M", "count=9000")
        (memory / "touch").unlink()
        rack.up()
        shape(rack)
        lines = rack.file.read_text().splitlines(keepends=True)
        head = [line for line in lines if "- { name:" not in line]
        boards = [line for line in lines if "- { name:" in line]
        big = rack.dir / "big"

        def once(count, mode):
            run("sh", "-c", f"head -c {SIZE} /dev/urandom >{big}")
            run(*rack.bramble("run", "--sudo", "rm -f /var/lib/big"))
            upload = f"prepare:\n  uploads:\n    - {{ from: ./big, path: /var/lib/big, mode: '{mode}' }}\n"
            (rack.dir / "some.yaml").write_text("".join(head + boards[:count]) + upload)
            record = timed(["target/release/bramble", "-q", "-f", rack.dir / "some.yaml", "up", "--yes"]).record()
            for name, _ in rack.nodes[:count]:
                there = rack.lab("shell", f"{rack.name}/{name}", "sha256sum", "/var/lib/big").split()[0]
                assert there == run("sha256sum", big).split()[0], f"{name} has other bytes"
            return record

        once(max(counts), "0644")
        bound = SIZE * 8 / CONTROLLER
        for turn in range(runs):
            for count in counts:
                found.setdefault(f"spread {count}", []).append(once(count, "0644"))
                say(f"{count} boards, passed on: {found[f'spread {count}'][-1]['seconds']:.1f} s, bound {bound:.1f} s")
        for count in direct:
            found[f"direct {count}"] = [once(count, "0640")]
            say(f"{count} boards, each from here: {found[f'direct {count}'][0]['seconds']:.1f} s")
    finally:
        rack.down()
        run("umount", memory)
        shutil.rmtree(memory, ignore_errors=True)
    save("spread", {"size": SIZE, "controller": CONTROLLER, "board": BOARD, "bound": bound, "counts": list(counts),
                    "runs": found})  # fmt: skip
    return {key: median([record["seconds"] for record in records]) for key, records in found.items()}
