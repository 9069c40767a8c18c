#!/usr/bin/env python3
"""Redoes the figures of README.md on this machine, and keeps the record that they come from.

    benches/table.py                  builds, compares (about 20 minutes), writes benches/records/DATE-table.json, redoes README.md
    benches/table.py --rounds 3 --seconds 2
    benches/table.py --from FILE      redoes README.md from a record, measuring nothing
    benches/table.py --check          says whether README.md holds what the newest record says, changing nothing

The machine should be idle, with mosquitto installed. rumqttd takes part if it is installed. README.md holds the figures
between two marker lines; nothing else of it is touched.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RECORDS = ROOT / "benches" / "records"
LOADGEN = ROOT / "target" / "release" / "ringmq-loadgen"
BEGIN, END = "<!-- figures: benches/table.py writes this -->", "<!-- end of figures -->"

TRAFFIC = {
    "p2p": "100 pairs, 32 outstanding, QoS 0",
    "p2p-qos1": "the same at QoS 1",
    "p2p-qos2": "the same at QoS 2",
    "unbatched": "100 pairs, 1 outstanding, QoS 0",
    "unbatched-qos1": "the same at QoS 1",
    "fan-out": "1 publisher to 1,000 subscribers, 10 outstanding",
    "fan-in": "200 publishers to 1 subscriber, 10 outstanding",
}
LATENCY = {
    "open-20k-8000": "20,000 messages/s over 8,000 connections",
    "open-50k-1000": "50,000 messages/s over 1,000 connections",
}
CLIENTS = ["connect-subscribe", "idle", "start"]
SCALING = {"scaling-local": "pairs on one shard", "scaling-cross": "pairs on different shards"}
SCENARIOS = [*TRAFFIC, *LATENCY, *CLIENTS, *SCALING]


def main():
    options = arguments()
    if options.check:
        return check()
    record = pathlib.Path(options.source) if options.source else measure(options)
    write_readme(readme_with(figures(load(record))))
    print(f"README.md holds the figures of {record.name}")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only say whether README.md holds the newest record")
    what.add_argument("--from", dest="source", metavar="FILE", help="redo README.md from this record")
    parser.add_argument("--rounds", default="5", help="runs of each scenario against each broker (default 5)")
    parser.add_argument("--seconds", default="4", help="length of the measured window (default 4)")
    return parser.parse_args()


def check():
    record = newest()
    if readme_with(figures(load(record))) == README.read_text():
        print(f"README.md holds the figures of {record.name}")
        return 0
    print(f"README.md differs from {record.name}: benches/table.py --from {record.relative_to(ROOT)}", file=sys.stderr)
    return 1


def newest():
    records = sorted(RECORDS.glob("*-table.json"))
    if not records:
        sys.exit(f"no record in {RECORDS}: benches/table.py makes one")
    return records[-1]


def load(path):
    return json.loads(path.read_text())


# --- measuring ---------------------------------------------------------------------------------------------------------


def measure(options):
    run("cargo", "build", "--release", "--workspace")
    run("cargo", "build", "--release", "--example", "forwarder")
    brokers = ["mosquitto", "ringmq", "forwarder"]
    if shutil.which("rumqttd", path=search_path()):
        brokers.append("rumqttd")
    with tempfile.TemporaryDirectory() as directory:
        results = pathlib.Path(directory) / "results.json"
        command = [f"./{LOADGEN.relative_to(ROOT)}", "compare", "--rounds", options.rounds, "--seconds", options.seconds, "--json", str(results)]
        command += [word for name in SCENARIOS for word in ("--scenario", name)]
        command += [word for name in brokers for word in ("--broker", name)]
        # A failed run is in the results, and told; the figures of the others still count.
        failed = subprocess.run(command, cwd=ROOT).returncode != 0
        if not results.exists():
            sys.exit("the comparison gave no results")
        record = {**circumstances(command, directory), "results": load(results)}
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{record['date']}-table.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if failed:
        sys.exit(f"some runs failed (see above): {path} is written, README.md is left alone")
    return path


def run(*command):
    subprocess.run(command, cwd=ROOT, check=True)


def search_path():
    """As the generator searches for brokers."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", os.path.expanduser("~/.cargo/bin")])


def circumstances(command, directory):
    relative = [word.replace(str(ROOT), ".").replace(directory, "DIR") for word in command]
    return {
        "date": datetime.date.today().isoformat(),
        "commit": output("git", "rev-parse", "HEAD"),
        "uncommitted_changes": bool(output("git", "status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "cpu": field("/proc/cpuinfo", "model name"),
            "cores": os.cpu_count(),
            "virtual": "hypervisor" in (field("/proc/cpuinfo", "flags") or ""),
            "memory": field("/proc/meminfo", "MemTotal"),
            "kernel": platform.release(),
        },
        "versions": {
            "mosquitto": version("mosquitto", "-h"),
            "rumqttd": version("rumqttd", "--version"),
            "rustc": version("rustc", "--version"),
        },
        "command": " ".join(relative),
    }


def output(*command):
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PATH": search_path()})
    except OSError:
        return None
    return (done.stdout + done.stderr).strip() or None


def version(*command):
    said = output(*command)
    return said.splitlines()[0] if said else None


def field(path, name):
    for line in open(path):
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


# --- telling -----------------------------------------------------------------------------------------------------------


def figures(record):
    """The text between the markers."""
    rows = {(row["scenario"], row["broker"]): row for row in record["results"]["medians"]}
    of = Rows(rows)
    parts = [introduction(record, of), traffic(of), latency(of), clients(of), limit(record), scaling(record)]
    return "\n\n".join(part for part in parts if part)


class Rows:
    def __init__(self, rows):
        self.rows = rows

    def value(self, scenario, broker, figure):
        row = self.rows.get((scenario, broker))
        return row and row["figures"].get(figure)

    def ratio(self, scenario, broker):
        row = self.rows.get((scenario, broker))
        return row and row.get("ratio")

    def others(self):
        """The brokers that are neither the first nor ringmq."""
        known = ("mosquitto", "ringmq", "forwarder", "ringmq-1", "ringmq-2")
        return list(dict.fromkeys(broker for _, broker in self.rows if broker not in known))


def introduction(record, of):
    machine = record["machine"]
    kernel = ".".join(machine["kernel"].split("-")[0].split(".")[:2])
    kind = "virtual machine" if machine["virtual"] else "machine"
    rounds = max(row["rounds"] for row in of.rows.values())
    path = f"benches/records/{record['date']}-table.json"
    return (
        "CPU of the broker (user and system) per delivered message, 64-byte payloads, MQTT 3.1.1, one pinned core for the broker\n"
        f"and one for the generator, against Debian's mosquitto 2.0.11 in the same run; medians of {rounds} interleaved rounds on\n"
        f"a {machine['cores']}-core {kind} ({machine['cpu']}, Linux {kernel}), {record['date']} ([record]({path}))."
    )


def traffic(of):
    others = of.others()
    head = ["Load", "mosquitto", *others, "ringmq", "ringmq ÷ mosquitto"]
    lines = []
    for scenario, words in TRAFFIC.items():
        costs = [microseconds(of.value(scenario, name, "cpu_us_per_message")) for name in ("mosquitto", *others, "ringmq")]
        lines.append([words, *costs, digits(of.ratio(scenario, "ringmq"))])
    return table(head, lines)


def latency(of):
    head = ["Open loop, QoS 0", "", "p50", "p99", "p99.9", "broker CPU"]
    lines = []
    for scenario, words in LATENCY.items():
        for name in ("mosquitto", *of.others(), "ringmq"):
            times = [microseconds(of.value(scenario, name, figure)) for figure in ("p50_us", "p99_us", "p999_us")]
            busy = of.value(scenario, name, "broker_busy_percent")
            if busy is not None:
                lines.append([words, name, *times, f"{busy:.0f} %"])
                words = ""
    return lines and table(head, lines)


def clients(of):
    said = []
    costs = [of.value("connect-subscribe", name, "cpu_us_per_client") for name in ("mosquitto", "ringmq")]
    if all(costs):
        ratio = digits(of.ratio("connect-subscribe", "ringmq") or costs[1] / costs[0])
        said.append(
            f"A client that connects and subscribes once costs {microseconds(costs[1])} of CPU (mosquitto:"
            f" {microseconds(costs[0])}, ratio {ratio})."
        )
    idle = [of.value("idle", "ringmq", figure) for figure in ("rss_per_connection", "broker_busy_percent")]
    if None not in idle:
        said.append(f"10,000 idle MQTT 5 connections with one subscription each: {idle[0]:.0f} bytes of RSS a connection, {idle[1]:.2f} % CPU.")
    start = [of.value("start", name, "rss_at_start") for name in ("ringmq", "mosquitto")]
    if all(start):
        said.append(f"RSS at start: {start[0] / 1e6:.1f} MB with 2 shards (mosquitto: {start[1] / 1e6:.1f} MB).")
    return wrap(" ".join(said))


def limit(record):
    ratios = {bar["scenario"]: bar["value"] for bar in record["results"]["bars"] if bar["against"] == {"other": "forwarder"}}
    if not ratios:
        return None
    said = " and ".join(f"{value:.2f} × ({TRAFFIC[scenario]})" for scenario, value in ratios.items())
    return wrap(f"Against a forwarder on the same ring with next to no MQTT in it ([benches/forwarder](benches/forwarder/main.rs)): {said}.")


def scaling(record):
    ratios = {bar["scenario"]: bar["value"] for bar in record["results"]["bars"] if bar["scenario"] in SCALING}
    if not ratios:
        return None
    said = " and ".join(f"{value:.2f} × for {SCALING[scenario]}" for scenario, value in ratios.items())
    return wrap(
        f"Two shards against one: {said}, as messages per second of the shards' own CPU time, times the shards: with 2 cores in"
        " all, a generator thread runs beside each shard."
    )


def table(head, lines):
    rows = [head, ["-"] * len(head), *lines]
    return "\n".join("|" + "|".join(cell if cell == "-" else f" {cell} " for cell in row) + "|" for row in rows)


def microseconds(value):
    if value is None:
        return "–"
    return f"{value / 1000:.{1 if value < 10_000 else 0}f} ms" if value >= 1000 else f"{digits(value)} µs"


def digits(value):
    """Two significant digits."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def wrap(text, width=120):
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def readme_with(text):
    old = README.read_text()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"README.md lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def write_readme(text):
    README.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
