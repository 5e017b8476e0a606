"""Where the time of a warm run goes: the handshake, by key exchange, and what a connection that is kept would save."""

from rack import Rack, median, run, save, say, timed

EXCHANGES = ["curve25519-sha256", "sntrup761x25519-sha512@openssh.com", "ecdh-sha2-nistp256"]


def measure(work, runs=15):
    rack = Rack("shake", 1, "10.78.29", work)
    try:
        rack.up()
        ((_, address),) = rack.nodes
        ssh = ["ssh", *rack.ssh_options]
        kept = ["-o", "ControlMaster=auto", "-o", f"ControlPath={rack.dir}/kept", "-o", "ControlPersist=60"]
        kinds = {f"ssh, {name}": [*ssh, "-o", f"KexAlgorithms={name}", f"pi@{address}", "true"] for name in EXCHANGES}
        kinds["ssh, a connection that was kept"] = [*ssh, *kept, f"pi@{address}", "true"]
        kinds["bramble run true"] = rack.bramble("run", "true")
        kinds["bramble plan"] = rack.bramble("plan")
        kinds["bramble --version"] = [*rack.bramble("--version")]
        timed(rack.bramble("up", "--yes"))
        run(*kinds["ssh, a connection that was kept"])
        found = {name: [] for name in kinds}
        for turn in range(runs):
            order = list(kinds.items())
            for name, command in order[turn % len(order) :] + order[: turn % len(order)]:
                found[name].append(timed(command).record())
        run("ssh", "-F", "none", "-o", f"ControlPath={rack.dir}/kept", "-O", "exit", f"pi@{address}")
        for name, records in found.items():
            say(f"{name}: {median([record['seconds'] for record in records]) * 1000:.0f} ms")
    finally:
        rack.down()
    save("handshake", found)
