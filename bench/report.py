"""Tables and plots from the raw figures in docs/performance."""

import json

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

from rack import OUT, median  # noqa: E402

plt.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "bramble", "font.family": "sans-serif", "font.size": 10, "axes.grid": True,
    "axes.spines.top": False, "axes.spines.right": False, "grid.alpha": 0.25, "figure.facecolor": "white",
})  # fmt: skip
OURS, OTHER, GREY = "#c51a4a", "#4c72b0", "#8c8c8c"


def load(name):
    path = OUT / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def of(records, key="seconds"):
    return median([record[key] for record in records])


def seconds(value):
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def draw(name, figure):
    figure.tight_layout()
    figure.savefig(OUT / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def w23():
    data = load("w23")
    if not data:
        return
    nodes = data["nodes"]
    floor = "one script over parallel ssh"
    print(f"## The 23 steps on {nodes} boards\n")
    rows = []
    order = sorted(data["warm"], key=lambda tool: of(data["warm"][tool]))
    for tool in order:
        warm, cold = data["warm"][tool], data["cold"][tool]
        rows.append([
            tool, seconds(of(warm)), f"{of(warm) / of(data['warm'][floor]):.2f}", seconds(of(cold)),
            f"{of(cold) / of(data['cold'][floor]):.2f}", f"{of(warm, 'cpu') / nodes * 1000:.0f} ms",
            f"{of(cold, 'memory') / 1024:.0f} MB",
        ])  # fmt: skip
    table(["", "warm", "to the script", "cold", "to the script", "CPU per node, warm", "largest process, cold"], rows)
    print("## Asking all boards something small\n")
    table(["", "median", "CPU here"], [[n, seconds(of(r)), seconds(of(r, "cpu"))] for n, r in data["talk"].items()])
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True)
    for axis, kind in zip(axes, ["warm", "cold"]):
        values = [of(data[kind][tool]) for tool in order]
        bars = axis.barh(order, values, color=[OURS if tool == "bramble" else GREY for tool in order])
        axis.bar_label(bars, [seconds(value) for value in values], padding=3)
        if kind == "warm":
            axis.set_xscale("log")
        axis.set_xlim(min(values) / 2 if kind == "warm" else 0, max(values) * (6 if kind == "warm" else 1.3))
        axis.set_title("again, nothing to change" if kind == "warm" else "fresh boards, with the reboot")
        axis.set_xlabel("seconds")
        axis.grid(axis="y", visible=False)
    axes[0].invert_yaxis()
    figure.suptitle(f"W23 on {nodes} boards, medians")
    draw("w23", figure)


def ready():
    data = load("ready")
    if data:
        print("## From prepared boards to all Ready\n")
        table(["", "median"], [[name, seconds(median(values) / 1000)] for name, values in data.items()])


def handshake():
    data = load("handshake")
    if data:
        print("## One board, one exchange\n")
        table(
            ["", "median", "CPU here"],
            [[n, seconds(of(r)), seconds(of(r, "cpu"))] for n, r in data.items() if n != "machine"],
        )


def crowd():
    for name, title in [("crowd", "A crowd of pretended nodes"), ("sshd", "Real sshd")]:
        data = load(name)
        if not data:
            continue
        print(f"## {title}\n")
        counts = [count for count in data if count.isdigit()]
        rows = []
        for count in counts:
            lines = dict(data[count])
            if name == "sshd":
                # The first one changes hostname and hosts, the others find nothing to do.
                lines = {"up, the first time": lines["up"][:1], **lines, "up": lines["up"][1:]}
            for command, records in lines.items():
                cpu = of(records, "cpu")
                rows.append([
                    count, command, seconds(of(records)), seconds(cpu), f"{cpu / int(count) * 1000:.1f} ms",
                    f"{of(records, 'memory') / 1024:.0f} MB",
                ])  # fmt: skip
        table(["nodes", "command", "median", "CPU here", "CPU per node", "memory"], rows)
        if "dead" in data:
            print("Ten of the last dead:", json.dumps(data["dead"]), "\n")
        if "far" in data:
            print("One node 100 ms away:", ", ".join(f"{c} {seconds(of(r))}" for c, r in data["far"].items()), "\n")
        figure, axes = plt.subplots(1, 2, figsize=(9, 3))
        for command in data[counts[0]]:
            colour = {"up": OURS, "plan": "#e07b91", "status": OTHER, "run": GREY}[command]
            x = [int(count) for count in counts]
            axes[0].plot(x, [of(data[c][command]) for c in counts], "o-", color=colour, label=f"bramble {command}")
            axes[1].plot(x, [of(data[c][command], "memory") / 1024 for c in counts], "o-", color=colour)
        axes[0].set_ylabel("seconds")
        axes[1].set_ylabel("MB of memory")
        for axis in axes:
            axis.set_ylim(0)
            axis.set_xlim(0)
            axis.set_xlabel("nodes")
        axes[0].legend(frameon=False)
        figure.suptitle(title)
        draw(name, figure)


def spread():
    data = load("spread")
    if not data:
        return
    print(f"## {data['size'] / 1e6:.0f} MB to many boards\n")
    bound, counts, runs = data["bound"], data["counts"], data["runs"]
    rows = []
    for count in counts:
        passed = of(runs[f"spread {count}"])
        direct = runs.get(f"direct {count}")
        rows.append([count, seconds(passed), f"{passed / bound:.2f}", seconds(of(direct)) if direct else "",
                     f"{of(direct) / bound:.2f}" if direct else ""])  # fmt: skip
    table(["boards", "passed on", "to the bound", "each from here", "to the bound"], rows)
    figure, axis = plt.subplots(figsize=(6, 3))
    axis.plot(counts, [of(runs[f"spread {c}"]) for c in counts], "o-", color=OURS, label="passed on by the boards")
    direct = [c for c in counts if f"direct {c}" in runs]
    axis.plot(direct, [of(runs[f"direct {c}"]) for c in direct], "o-", color=GREY, label="each from here")
    axis.axhline(bound, color=OTHER, linestyle="--", label=f"size / link of the controller: {bound:.0f} s")
    axis.set_ylim(0)
    axis.set_xlabel("boards")
    axis.set_ylabel("seconds")
    axis.legend(frameon=False)
    axis.set_title(f"{data['size'] / 1e6:.0f} MB over a 200 Mbit/s link")
    draw("spread", figure)


def flash():
    data = load("flash")
    if data:
        print(f"## Writing disks: {data['size'] / 1e9:.1f} GB, packed {data['packed'] / 1e6:.0f} MB\n")
        rows = [[n, seconds(of(r)), f"{of(r, 'memory') / 1024:.0f} MB"] for n, r in data["runs"].items()]
        table(["", "median", "memory"], rows)


for part in (w23, ready, handshake, crowd, spread, flash):
    part()
