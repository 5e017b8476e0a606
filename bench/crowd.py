"""Up to a thousand nodes: a crowd of pretended ones, and as many real sshd as fit."""

import json
import shutil
from pathlib import Path

from rack import BRAMBLE, CROWD, Rack, run, save, say, timed
from w23 import Bramble, serve

COMMANDS = {"up": "up --yes", "plan": "plan", "status": "status", "run": "run true"}


def address(n):
    return f"10.79.{n // 200}.{n % 200 + 10}"


def mac(n):
    return f"dc:a6:32:79:{n // 256:02x}:{n % 256:02x}"


def cluster_file(template, count, with_mac=True):
    """A cluster file like the rack's, with other nodes; what comes after the nodes stays."""
    nodes = "".join(
        f"  - {{ name: n{n}, role: worker, board: generic-amd64, address: {address(n)}"
        + (f', mac: "{mac(n)}"' if with_mac else "")
        + " }\n"
        for n in range(1, count + 1)
    )
    head, _, rest = template.partition("nodes:\n")
    after = "".join(line + "\n" for line in rest.splitlines() if not line.startswith("  - { name:"))
    lines = [
        "network: { subnet: 10.79.0.0/16, cni: routed }" if line.startswith("network:") else line
        for line in head.splitlines()
    ]
    return "\n".join(lines) + "\nnodes:\n" + nodes + after


def known_hosts(folder, count, public):
    (folder / ".bramble").mkdir(exist_ok=True)
    key = " ".join(public.split()[:2])
    (folder / ".bramble/known_hosts").write_text("".join(f"{address(n)} {key}\n" for n in range(1, count + 1)))


IN_NAMESPACE = """set -eu
ip link set lo up
{routes}
ulimit -n $(ulimit -Hn)
{dead}
{server} &
server=$!
trap 'kill $server' EXIT
for try in $(seq 200); do ! bash -c ': </dev/tcp/{last}/22' 2>/dev/null || break; sleep 0.1; done
for turn in {turns}; do
    for command in {commands}; do
        case $command in {cases} esac
        code=0
        /usr/bin/time -q -a -o figures -f "$command %e %U %S %M" {bramble} -f bramble.yaml $words \\
            </dev/null >out.$command 2>&1 || code=$?
        echo "$command $code" >>codes
    done
done
"""


# Every address of the network is this namespace's own.
ANY = "ip route add local 10.79.0.0/16 dev lo"


def in_namespace(folder, count, server, commands, turns, dead=(), routes="", unshare=()):
    """Runs a server and bramble's commands in a network namespace that ends with them; returns their figures."""
    drop = ""
    if dead:
        drop = (
            "nft add table inet t; nft add chain inet t i '{ type filter hook input priority 0; }'; "
            f"nft add rule inet t i ip daddr '{{ {','.join(address(n) for n in dead)} }}' drop"
        )
    script = IN_NAMESPACE.format(
        routes=routes, dead=drop, server=server, last=address(count), turns=" ".join(map(str, range(turns))), bramble=BRAMBLE,
        commands=" ".join(commands), cases=" ".join(f"{c}) words='{COMMANDS[c]}' ;;" for c in commands),
    )  # fmt: skip
    for old in ("figures", "codes"):
        (folder / old).unlink(missing_ok=True)
    run("unshare", "--net", "--mount", *unshare, "sh", "-c", script, cwd=folder)
    found = {command: [] for command in commands}
    codes = [line.split() for line in (folder / "codes").read_text().splitlines()]
    for line, (command, code) in zip((folder / "figures").read_text().splitlines(), codes):
        name, wall, user, system, memory = line.split()
        found[name].append(
            {"seconds": float(wall), "cpu": round(float(user) + float(system), 2), "memory": int(memory), "code": int(code)}
        )
    return found


def measure(work, counts=(125, 250, 500, 1000), turns=3):
    """A crowd that answers as one real board does: 5 ms away each, every hundredth 50 ms (each way)."""
    serve()
    rack = Rack("w23c", 1, "10.78.28", work)
    results = {}
    try:
        rack.up()
        Bramble(rack, None).prepare()
        timed(rack.bramble("up", "--yes"))
        folder = Path(work) / "crowd"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host_key")
        public = (folder / "host_key.pub").read_text()
        (name, at), = rack.nodes
        real = f"{name} {at} dc:a6:32:4e:1c:00 0"
        command = f"{BRAMBLE} lab shell {rack.name}/{name} su pi -c \\\"\\$1\\\""
        server = f'{CROWD} --members members --host-key host_key --real "{real}" --command "{command}"'
        for count in counts:
            (folder / "bramble.yaml").write_text(cluster_file(rack.file.read_text(), count))
            known_hosts(folder, count, public)
            members = (f"n{n} {address(n)} {mac(n)} {50 if n % 100 == 0 else 5}\n" for n in range(1, count + 1))
            (folder / "members").write_text("".join(members))
            results[count] = in_namespace(folder, count, server, list(COMMANDS), turns, routes=ANY)
            for one, records in results[count].items():
                assert all(record["code"] == 0 for record in records), (count, one, (folder / f"out.{one}").read_text()[-2000:])
            say(f"{count} nodes: {json.dumps({c: r[-1] for c, r in results[count].items()})}")
        most = max(counts)
        dead = range(11, 21)
        results["dead"] = in_namespace(folder, most, server, ["status", "run"], 1, dead, ANY)
        say(f"{most} nodes, ten dead: {json.dumps(results['dead'])}")
        lines = len((folder / "out.status").read_text().splitlines())
        results["dead"]["lines of status"] = lines
        # One node alone, 100 ms there and back: what is left is the number of journeys.
        (folder / "bramble.yaml").write_text(cluster_file(rack.file.read_text(), 1))
        (folder / "members").write_text(f"n1 {address(1)} {mac(1)} 50\n")
        results["far"] = in_namespace(folder, 1, server, list(COMMANDS), turns, routes=ANY)
        say(f"one node 100 ms away: {json.dumps(results['far'])}")
    finally:
        rack.down()
    save("crowd", results)


SSHD = """mount -t tmpfs none /run/netns
ip link add br0 type bridge
ip link set br0 up
ip addr add 10.79.255.254/16 dev br0
for n in $(seq {count}); do
    a=10.79.$((n / 200)).$((n % 200 + 10))
    echo "netns add n$n" >>first
    echo "link add v$n type veth peer name eth0 netns n$n
link set v$n master br0 up" >>second
    echo "link set lo up
addr add $a/16 dev eth0
link set eth0 up" >third.$n
done
ip -batch first
ip -batch second
for n in $(seq {count}); do
    mkdir -p disks/$n/upper disks/$n/work disks/$n/root
    mount -t overlay -o lowerdir={base},upperdir=disks/$n/upper,workdir=disks/$n/work none disks/$n/root
    r=disks/$n/root
    for d in proc dev; do mount --rbind /$d $r/$d; done
    mkdir -p $r/run/sshd $r/home/pi/.ssh
    cp key.pub $r/home/pi/.ssh/authorized_keys
    cp host_key $r/etc/ssh/ssh_host_ed25519_key
    echo 'pi:x:1000:1000::/home/pi:/bin/bash' >>$r/etc/passwd
    echo 'pi:*:19000:0:99999:7:::' >>$r/etc/shadow
    echo 'pi:x:1000:' >>$r/etc/group
    chown -R 1000:1000 $r/home/pi
    echo 'pi ALL=(ALL) NOPASSWD: ALL' >$r/etc/sudoers.d/pi
    echo "127.0.1.1 n$n" >>$r/etc/hosts
    printf '%032x\\n' $n >$r/etc/machine-id
    : >$r/etc/resolv.conf
    ip -n n$n -batch third.$n
    ip netns exec n$n unshare --uts sh -c "hostname n$n; exec chroot $r /usr/sbin/sshd -D -o UsePAM=no" &
done
wait"""


def measure_sshd(work, counts=(125, 250, 500), turns=3):
    """Real sshd processes, each on an address and a disk of its own above one shared root."""
    base = max(Path("/var/cache/bramble/roots").glob("*/etc/os-release"), key=lambda path: path.stat().st_mtime)
    base = base.parent.parent
    results = {}
    for count in counts:
        folder = Path(work) / "sshd"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "disks").mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", "size=8g", "bramble-bench", folder / "disks")
        try:
            for key in ("key", "host_key"):
                run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key)
            template = (
                f"cluster: sshd\naccess:\n  user: pi\n  keys: [{folder}/key]\nnetwork: x\ndistribution:\n  none\nnodes:\n"
            )
            (folder / "bramble.yaml").write_text(cluster_file(template, count, with_mac=False))
            known_hosts(folder, count, (folder / "host_key.pub").read_text())
            (folder / "server.sh").write_text(SSHD.format(count=count, base=base))
            results[count] = in_namespace(
                folder, count, "sh server.sh", ["up", "plan", "run"], turns,
                # A thousand processes end with the first one of their namespace.
                unshare=["--pid", "--fork", "--kill-child", "--mount-proc"],
            )
            for one, records in results[count].items():
                assert all(record["code"] == 0 for record in records), (count, one, (folder / f"out.{one}").read_text()[-2000:])
            say(f"{count} real sshd: {json.dumps(results[count])}")
        finally:
            run("umount", folder / "disks")
    save("sshd", results)
