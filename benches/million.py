#!/usr/bin/env python3
"""What benches/million.sh has measured, as a table, and whether the bars were held.

    benches/million.py RUN.json FACTS.json [FIGURES.json]

RUN.json is the generator's result, FACTS.json what only the script knows. FIGURES.json is written, for other programs.
Exit code: 0 every bar was held, 1 one was not, 2 the run has no figures.
"""

import json
import platform
import sys

IDLE_PERCENT_MAX = 5.0
# A PINGREQ alone in its receive and its PINGRESP alone in its send; measured: 18 (2-core VM, Linux 6.18).
PING_US_MAX = 25.0
# Seconds without a ping that say what idleness costs by themselves.
QUIET_SECONDS_MIN = 5
# From here on the whole process is told by connection; below, what connections added to it.
WHOLE_FROM = 200_000


def seconds_of_window(run):
    """Of each second of the window that the broker's process was read in: (its CPU in percent, pings while it was)."""
    begin, end = run["summary"]["time"]["window_at"]
    points, rows = run.get("broker_series") or [], run.get("series") or []
    for before, point in zip(points, points[1:]):
        start, stop = before["at"], point["at"]
        if begin <= start and stop <= end:
            # A ping at its edge is in a row that reaches beyond it: rather one too many.
            during = (row for row in rows if row["at"] < stop and row["at"] + row["seconds"] > start)
            yield point["busy_percent"], sum(row["counts"]["pings"] for row in during)


def idle_cpu(run):
    """CPU of the broker while nothing happens, in percent of a core, and how that was found; or None and why not."""
    seconds = list(seconds_of_window(run))
    quiet = [busy for busy, pings in seconds if pings == 0]
    if len(quiet) >= QUIET_SECONDS_MIN:
        return sum(quiet) / len(quiet), f"{len(quiet)} s without a ping"
    if len(seconds) < QUIET_SECONDS_MIN:
        return None, f"the window had {len(seconds)} whole seconds, {QUIET_SECONDS_MIN} are needed: a longer --hold"
    time, pings = run["summary"]["time"], sum(row["counts"]["pings"] for row in run["series"] if row["in_window"])
    a_second = pings / max(time["window_seconds"], 1.0)
    busy = run["summary"]["broker"]["busy_percent"] - a_second * PING_US_MAX / 1e4
    return max(busy, 0.0), f"pings in every second, {a_second:,.0f} a second: {PING_US_MAX:g} µs taken off for each"


def figures_of(run, facts):
    """All figures, None where there is none."""
    n, summary = facts["connections"], run["summary"]
    broker, connect = summary["broker"], summary["connect"]
    rss = broker["rss_after_bytes"] / n if n >= WHOLE_FROM else broker["rss_per_connection_bytes"]
    idle, idle_by = idle_cpu(run)
    return {
        "connections": n,
        "subscribed": facts["subscribed"],
        "shards": facts["shards"],
        "generator_threads": facts["generator_threads"],
        "source_addresses": facts["source_addresses"],
        "kernel": platform.release(),
        "cpu": run["host"].get("cpu"),
        "cpus": facts["cpus"],
        "memory_bytes": run["host"].get("memory_bytes"),
        "ended": run["about"]["ended"],
        "commit": run["about"]["commit"],
        "connects_per_second": connect["per_second"],
        "seconds_until_last": summary["time"]["connect_seconds"],
        "broker_rss_bytes_per_connection": rss,
        "broker_rss_bytes": broker["rss_after_bytes"],
        "generator_rss_bytes_per_connection": facts["generator_rss_bytes"] / n,
        "kernel_slab_bytes_per_connection": summary["kernel"]["slab_per_connection_bytes"],
        "host_bytes_per_connection": facts["host_bytes"] / n if facts["host_bytes"] > 0 else None,
        "broker_connect_cpu_us": broker["connect_cpu_us"],
        "broker_idle_cpu_percent": idle,
        "broker_idle_cpu_by": idle_by,
        "broker_window_cpu_percent": broker["busy_percent"],
        "held_seconds": summary["time"]["window_at"][1] - summary["time"]["connect_seconds"],
        "pings": summary["whole"]["pings"],
        "woken": summary["whole"]["delivered"],
        "stop_seconds": facts["stop_seconds"],
    }


def bars_of(run, facts, figures):
    """What has to hold: a sentence each, and whether it does. What could not be judged does not."""
    n, summary = facts["connections"], run["summary"]
    rss, rss_max = figures["broker_rss_bytes_per_connection"], 1280 if facts["subscribed"] else 1024
    idle = figures["broker_idle_cpu_percent"]
    idle_bar = f"at most {IDLE_PERCENT_MAX:g} % of a core while idle"
    if idle is None:
        idle_bar += f" (not judged: {figures['broker_idle_cpu_by']})"
    return [
        ("every client was in, and stayed", summary["connect"]["ready"] >= n and summary["whole"]["dropped"] == 0),
        ("every client of the sample was woken, once", figures["woken"] == woken_wanted(facts)),
        ("the generator's own checks", facts["verdict"] == 0),
        (f"at most {rss_max:,} B of the broker for each", rss is not None and rss <= rss_max),
        (idle_bar, idle is not None and idle <= IDLE_PERCENT_MAX),
        ("the broker stopped in order", facts["stop_code"] == 0),
    ]


def woken_wanted(facts):
    return facts["connections"] // 100 if facts["subscribed"] else 0


def rows_of(facts, figures):
    n = facts["connections"]
    how_much = "all of it" if n >= WHOLE_FROM else "what they added"

    def show(name, form, why="n/a"):
        value = figures[name]
        return why if value is None else form.format(value)

    return [
        ("connections", f"{n:,}" + (", each with one unique exact subscription" if facts["subscribed"] else "")),
        ("shards / generator threads / source addresses",
         "{shards} / {generator_threads} / {source_addresses}".format(**facts)),
        ("connects per second", show("connects_per_second", "{:,.0f}", "n/a: not all came in")),
        ("until the last is in", show("seconds_until_last", "{:.1f} s")),
        ("broker CPU per connect", show("broker_connect_cpu_us", "{:.1f} µs", "n/a: nobody came in")),
        ("broker RSS per connection",
         show("broker_rss_bytes_per_connection", "{:,.0f} B (" + how_much + ")", "n/a: nobody was in")),
        ("generator RSS per connection",
         show("generator_rss_bytes_per_connection", "{:,.0f} B (all of it, at its largest)")),
        ("kernel memory per connection, both ends",
         show("kernel_slab_bytes_per_connection", "{:,.0f} B of slab",
              "n/a: the kernel had less slab than before, others gave back more")),
        ("all memory of the host per connection",
         show("host_bytes_per_connection", "{:,.0f} B", "n/a: more was available than before, others ended")),
        ("idle CPU of the broker",
         show("broker_idle_cpu_percent", "{:.2f} % of a core (" + figures["broker_idle_cpu_by"] + ")",
              "not judged: " + figures["broker_idle_cpu_by"])),
        ("CPU of the broker in the whole window",
         show("broker_window_cpu_percent", "{:.2f} % of a core") + f", {figures['pings']:,} pings in the run"),
        ("woken by a message each", f"{figures['woken']:,} of {woken_wanted(facts):,}"),
        ("broker stopped, with all connected", show("stop_seconds", "{:.1f} s")),
    ]


def main(run_path, facts_path, figures_path=None):
    with open(run_path, encoding="utf-8") as file:
        run = json.load(file)
    with open(facts_path, encoding="utf-8") as file:
        facts = json.load(file)
    if run["summary"]["broker"] is None:
        why = "; ".join(run.get("failures", []) + run.get("warnings", []))
        print(f"million.py: the broker's process was not read to the end of the window: {why or 'the run was cut short'}",
              file=sys.stderr)
        return 2
    figures = figures_of(run, facts)
    bars = bars_of(run, facts, figures)
    print()
    for name, value in rows_of(facts, figures):
        print(f"{name:48}{value}")
    print()
    for name, held in bars:
        print(f"{'ok    ' if held else 'MISSED'}  {name}")
    if figures_path:
        figures["bars"] = {name: held for name, held in bars}
        with open(figures_path, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)
            file.write("\n")
    return 0 if all(held for _, held in bars) else 1


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
