"""The 23 steps of preparation on boards: bramble, Ansible, pyinfra, and one script over parallel ssh."""

import functools
import hashlib
import http.server
import shlex
import subprocess
import threading
import time

from rack import ROOT, Rack, median, parallel_ssh, run, save, say, timed

HERE = ROOT / "bench/w23"
CONTENT = b"the file that every node fetches\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PORT = 8923


@functools.cache
def serve():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def then_boot(command, rack):
    """A command, then a boot of all boards at once, as it asks for one, and the wait for them."""
    options = " ".join(rack.ssh_options)
    lines = [shlex.join(map(str, command)) + " || exit", "set --"]
    for _, address in rack.nodes:
        ssh = f"ssh {options} -o ConnectTimeout=2 pi@{address}"
        lines.append(
            f"( id=$({ssh} 'cat /proc/sys/kernel/random/boot_id; sudo systemctl --no-block reboot'); "
            f"while n=$({ssh} cat /proc/sys/kernel/random/boot_id 2>/dev/null) || n=; "
            f'[ -z "$n" ] || [ "$n" = "$id" ]; do sleep 0.1; done ) & set -- "$@" $!'
        )
    lines.append('for p; do wait "$p"; done')
    return ["sh", "-c", "\n".join(lines)]


class Tool:
    """One way to take the steps, with a rack of its own."""

    def __init__(self, rack, venv):
        self.rack, self.venv = rack, venv

    def prepare(self):
        """What must be there before the clock starts."""


class Floor(Tool):
    name = "one script over parallel ssh"

    def command(self):
        rack = self.rack
        url = f"http://{rack.subnet}.1:{PORT}/fetched"

        def script(name):
            words = f"sudo sh -s {name} {shlex.quote(rack.hosts_lines)} {url} {DIGEST}"
            return shlex.quote(words)

        return parallel_ssh(rack, script, HERE / "floor.sh")

    def cold(self):
        return then_boot(self.command(), self.rack)


class Bramble(Tool):
    name = "bramble"

    def prepare(self):
        text = (HERE / "prepare.yaml").read_text()
        text = text.replace("@URL@", f"http://{self.rack.subnet}.1:{PORT}/fetched").replace("@SHA256@", DIGEST)
        with self.rack.file.open("a") as file:
            file.write(text)

    def command(self):
        return self.rack.bramble("up", "--yes")

    cold = command


class Ansible(Tool):
    name = "Ansible"

    def prepare(self):
        rack = self.rack
        # Ansible needs Python on the boards; the lists go again, since fetching them is one of the steps.
        install = (
            "apt-get -q update && apt-get -q -y install python3 python3-apt && rm -rf /var/lib/apt/lists/* && "
            "find /var/lib/apt/lists /var/lib/apt/periodic -exec touch -d '3 days ago' {} +"
        )
        run(*rack.bramble("run", "--sudo", install))
        lines = [f"{name} ansible_host={address} ansible_user=pi" for name, address in rack.nodes]
        (rack.dir / "inventory").write_text("\n".join(lines) + "\n")
        hosts = "\n".join("  " + line for line in rack.hosts_lines.splitlines())
        (rack.dir / "vars.yaml").write_text(
            f"url: http://{rack.subnet}.1:{PORT}/fetched\ndigest: {DIGEST}\nhosts_lines: |\n{hosts}\nsysctls:\n"
            "  net.ipv4.ip_forward: '1'\n  net.bridge.bridge-nf-call-iptables: '1'\n"
            "  net.bridge.bridge-nf-call-ip6tables: '1'\n  vm.swappiness: '10'\n"
        )
        options = " ".join([*rack.ssh_options, "-o ControlMaster=auto -o ControlPersist=600s"])
        (rack.dir / "ansible.cfg").write_text(
            f"[defaults]\nforks = {max(rack.count, 8)}\ninventory = inventory\ninterpreter_python = /usr/bin/python3\n"
            "gathering = smart\nlocalhost_warning = false\n[ssh_connection]\npipelining = true\n"
            f"ssh_args = {options}\ncontrol_path_dir = {rack.dir}/cp\n"
        )

    def call(self, *arguments):
        environment = f"ANSIBLE_CONFIG={self.rack.dir}/ansible.cfg"
        return ["env", "-C", self.rack.dir, environment, f"PATH={self.venv}/bin:/usr/bin:/bin", *arguments]

    def command(self):
        return self.call("ansible-playbook", "-e", "@vars.yaml", HERE / "playbook.yaml")

    cold = command


class Pyinfra(Tool):
    name = "pyinfra"

    def prepare(self):
        rack = self.rack
        hosts = [
            (name, {"ssh_hostname": address, "ssh_user": "pi", "ssh_key": rack.key, "_sudo": True,
                    "ssh_known_hosts_file": str(rack.known_hosts), "ssh_strict_host_key_checking": "yes"})
            for name, address in rack.nodes
        ]  # fmt: skip
        (rack.dir / "inventory.py").write_text(f"boards = {hosts!r}\n")
        data = rack.dir / "group_data"
        data.mkdir(exist_ok=True)
        values = {"url": f"http://{rack.subnet}.1:{PORT}/fetched", "digest": DIGEST, "hosts_lines": rack.hosts_lines}
        (data / "all.py").write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))

    def command(self):
        return ["env", "-C", self.rack.dir, f"{self.venv}/bin/pyinfra", "-y", "--parallel", max(self.rack.count, 8),
                "inventory.py", HERE / "deploy.py"]  # fmt: skip

    def cold(self):
        return then_boot(self.command(), self.rack)


TOOLS = {"w23f": Floor, "w23b": Bramble, "w23p": Pyinfra, "w23a": Ansible}


def state(rack):
    """What the steps have come to on each node."""
    script = (HERE / "state.sh").read_text()
    found = []
    for _, address in rack.nodes:
        found.append(run("ssh", *rack.ssh_options, f"pi@{address}", "sudo sh -s", input=script))
    return found


def prove_equal(tools):
    first = None
    for tool in tools:
        for (name, _), text in zip(tool.rack.nodes, state(tool.rack)):
            text = text.replace(name, "NODE")
            first = first or (tool.name, text)
            if text != first[1]:
                (tool.rack.dir / "state.wrong").write_text(text)
                (tool.rack.dir / "state.right").write_text(first[1])
                diff = subprocess.run(
                    ["diff", tool.rack.dir / "state.right", tool.rack.dir / "state.wrong"], capture_output=True, text=True
                )
                raise SystemExit(f"{name} ({tool.name}) is not as {first[0]} leaves its nodes:\n{diff.stdout}")
    say(f"all {len(tools)} tools leave their nodes in one state ({len(first[1].splitlines())} lines of it)")
    return first[1]


def measure(work, venv, nodes=8, colds=3, warms=5):
    serve()
    tools = [make(Rack(name, nodes, f"10.78.{20 + i}", work), venv) for i, (name, make) in enumerate(TOOLS.items())]
    cold = {tool.name: [] for tool in tools}
    warm = {tool.name: [] for tool in tools}
    try:
        for turn in range(colds):
            # Only the racks of this turn's tool are up: idle boards cost something, too.
            for tool in tools[turn % 4 :] + tools[: turn % 4]:
                tool.rack.up()
                tool.prepare()
                time.sleep(3)
                cold[tool.name].append(timed(tool.cold()).record())
                say(f"cold {tool.name}: {cold[tool.name][-1]}")
                if turn < colds - 1:
                    tool.rack.down()
        proof = prove_equal(tools)
        for tool in tools:
            timed(tool.command())
        for turn in range(warms):
            for tool in tools[turn % 4 :] + tools[: turn % 4]:
                warm[tool.name].append(timed(tool.command()).record())
                say(f"warm {tool.name}: {warm[tool.name][-1]}")
        prove_equal(tools)
        talk = measure_talk(tools, warms)
    finally:
        for tool in tools:
            tool.rack.down()
    save("w23", {"nodes": nodes, "cold": cold, "warm": warm, "talk": talk, "state": proof})


def measure_talk(tools, runs):
    """Asking all boards something small."""
    by = {type(tool): tool for tool in tools}
    bramble, ansible, floor = by[Bramble], by[Ansible], by[Floor]
    kinds = {
        "parallel ssh `true`": parallel_ssh(floor.rack, lambda name: "true"),
        "bramble run true": bramble.rack.bramble("run", "true"),
        "bramble status": bramble.rack.bramble("status"),
        "bramble plan": bramble.rack.bramble("plan"),
        "ansible -m ping": ansible.call("ansible", "all", "-m", "ping"),
    }
    found = {name: [] for name in kinds}
    for turn in range(runs):
        order = list(kinds.items())
        for name, command in order[turn % len(order) :] + order[: turn % len(order)]:
            found[name].append(timed(command).record())
    for name, records in found.items():
        say(f"{name}: {median([r['seconds'] for r in records]):.3f} s")
    return found
