#!/usr/bin/env python3
"""What the way in costs: each transport by message, handshake and idle connection, and a storm of passwords to those inside.

    benches/access.py                    all of it (about eight minutes); writes benches/records/DATE-access.json
    benches/access.py traffic storm      some of it, shown and not recorded
    benches/access.py --rounds 5         runs of each kind, in interleaved rounds (default 3); medians are shown
    benches/access.py --seconds 2        length of each measured window (default 2)

The broker runs on CPU 0 with one shard, the generator on CPU 1; the machine should do nothing else. Times are CPU time of
the broker, from /proc. Needs openssl, which makes an authority and a certificate (ECDSA P-256) for the occasion, and for
the storm the right to a real-time priority (CAP_SYS_NICE).

The storm is compared with two runs without it: CPUs that hash passwords never sleep, and on many machines a message waits
longer for a CPU to wake than for the broker. In the second of the two, loops of the idle class keep both CPUs awake.
"""

import argparse
import base64
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing

import table

ROOT = table.ROOT
RINGMQ = os.environ.get("RINGMQ", str(ROOT / "target" / "release" / "ringmq"))
LOADGEN = os.environ.get("LOADGEN", str(table.LOADGEN))
TRANSPORTS = ["tcp", "ws", "tls", "wss"]
LOADS = {
    "p2p": "100 pairs, 32 outstanding, QoS 0",
    "unbatched": "100 pairs, 1 outstanding, QoS 0",
    "p2p-qos1": "100 pairs, 32 outstanding, QoS 1",
}
#: Broker's CPU and the generator's.
BROKER_CPU, GENERATOR_CPU = "0", "1"
IDLE_CLIENTS = 5000
HANDSHAKES = 4000
#: More than any one core can verify, so that some wait from beginning to end.
STORM_CLIENTS, STORM_PER_SECOND = 3000, 300
STORM_WORKERS = 4


def main():
    options = arguments()
    parts = {"traffic": traffic, "handshakes": handshakes, "idle": idle, "storm": storm}
    with tempfile.TemporaryDirectory(prefix="ringmq-access-") as directory:
        place = Place(pathlib.Path(directory), options)
        certificates(place.directory)
        results = {name: measure(place) for name, measure in parts.items() if name in (options.parts or parts)}
    for name, rows in results.items():
        print(f"\n{name}\n" + table.table(["", *TITLES[name]], [[row, *map(shown, cells.values())] for row, cells in rows.items()]))
    if not options.parts:
        keep(results)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="traffic, handshakes, idle, storm (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    unknown = set(options.parts) - set(TITLES)
    if unknown or options.rounds < 1 or options.seconds < 1:
        parser.error(f"no such part: {', '.join(unknown)}" if unknown else "rounds and seconds are at least 1")
    return options


TITLES = {
    "traffic": ["CPU µs a message", "÷ tcp"],
    "handshakes": ["CPU µs a connection", "connections a second and core"],
    "idle": ["RSS a connection, bytes", "of the kernel, bytes"],
    "storm": ["p50 µs", "p99 µs", "p99.9 µs", "CPU that verifies, % of a core", "p99 µs of the worst round"],
}


def shown(value):
    return f"{value:,.0f}" if value >= 100 else table.digits(value)


class Place:
    """Where everything lies, and how often and how long it runs."""

    def __init__(self, directory, options):
        self.directory, self.rounds, self.seconds = directory, options.rounds, options.seconds


def keep(results):
    record = {**table.circumstances(["benches/access.py", *sys.argv[1:]], ""), "results": results}
    path = table.RECORDS / f"{record['date']}-access.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"\nrecorded in {path.relative_to(ROOT)}")


# --- what is measured --------------------------------------------------------------------------------------------------


def traffic(place):
    """Each load over each transport: CPU per delivered message, and its ratio to TCP of the same round."""
    costs = {(load, transport): [] for load in LOADS for transport in TRANSPORTS}
    for _ in range(place.rounds):
        for load, transport in costs:
            with broker(place, transport) as running:
                result = running.generate(load, "--duration", f"{place.seconds}s")
                costs[load, transport].append(result["broker"]["cpu_us_per_message"])
    rows = {}
    for load, transport in costs:
        ratios = [cost / tcp for cost, tcp in zip(costs[load, transport], costs[load, "tcp"], strict=True)]
        rows[f"{LOADS[load]}: {transport}"] = {
            "cpu_us_per_message": statistics.median(costs[load, transport]),
            "ratio_to_tcp": statistics.median(ratios),
        }
    return rows


def handshakes(place):
    """Clients that come in, 64 at once: what TCP and CONNECT cost is the first row's."""
    kinds = {"tcp": ("tcp", []), "ws": ("ws", []), "tls 1.3": ("tls", []), "tls 1.3, resumed": ("tls", ["--resume"])}
    costs = {kind: [] for kind in kinds}
    for _ in range(place.rounds):
        for kind, (transport, more) in kinds.items():
            with broker(place, transport) as running:
                result = running.generate("connect-subscribe", "--set", f"connections={HANDSHAKES}", "--set", "hold=1s", *more)
                costs[kind].append(result["broker"]["connect_cpu_us"])
    return {
        kind: {"cpu_us_per_connection": cost, "connections_per_second_and_core": 1e6 / cost}
        for kind, cost in ((kind, statistics.median(each)) for kind, each in costs.items())
    }


def idle(place):
    """Connections that do nothing, each with a subscription, at a broker that served nobody before."""
    rows = {transport: [] for transport in TRANSPORTS}
    for _ in range(place.rounds):
        for transport in TRANSPORTS:
            with broker(place, transport) as running:
                result = running.generate("idle", "--set", f"connections={IDLE_CLIENTS}", "--warm-up", "6s", "--duration", "2s")
                at_rest = result["broker"]["rss_after_bytes"] - result["broker"]["rss_before_bytes"]
                rows[transport].append((at_rest / IDLE_CLIENTS, result["kernel"]["slab_per_connection_bytes"]))
    return {
        transport: {"rss_bytes": statistics.median(rss), "kernel_bytes": statistics.median(slab)}
        for transport, (rss, slab) in ((transport, zip(*each, strict=True)) for transport, each in rows.items())
    }


def storm(place):
    """Latency of 500 pairs that are in, alone and while clients come to have their passwords (argon2id) verified."""
    kinds = {"alone": "", "alone, CPUs kept awake": "awake", "beside a storm of passwords": "storm"}
    rows = {row: [] for row in kinds}
    for _ in range(place.rounds):
        for row, kind in kinds.items():
            with broker(place, "tcp", passwords=True) as running, awake() if kind == "awake" else contextlib.nullcontext():
                rows[row].append(besieged(running, place.seconds * 4, kind == "storm"))
    return {row: middle(runs) for row, runs in rows.items()}


def middle(runs):
    """The median of each figure, and the worst round's p99."""
    medians = {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}
    return {**medians, "worst_p99_us": max(run["p99_us"] for run in runs)}


@contextlib.contextmanager
def awake(cpus=(BROKER_CPU, GENERATOR_CPU)):
    """Keeps CPUs from sleeping by loops that give way to everything else."""

    def stand_back(cpu):
        os.sched_setaffinity(0, {int(cpu)})
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    loops = []
    try:
        for cpu in cpus:
            loops.append(subprocess.Popen(["sh", "-c", "while :; do :; done"], preexec_fn=lambda cpu=cpu: stand_back(cpu)))
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def besieged(running, seconds, with_storm):
    load = ("--set", "rate=10000", "--warm-up", "3s", "--duration", f"{seconds}s")
    # Nobody counts the broker's instructions meanwhile: such counters have work at each switch between a shard and a worker,
    # of which a storm makes many.
    inside = running.start("open-50k-1000", *load, user="inside", before=ahead_of_all, watch=False)
    # By then all are in: their password is one that costs nothing to verify.
    time.sleep(1.5)
    outside = None
    if with_storm:
        rate = ("--set", f"connections={STORM_CLIENTS}", "--set", f"connect_rate={STORM_PER_SECOND}")
        outside = running.start("connect", *rate, "--connecting", str(STORM_CLIENTS), user="storm", watch=False)
    time.sleep(1.5)
    before = running.hashing_seconds()
    time.sleep(seconds)
    hashing = running.hashing_seconds() - before
    latency = running.result_of(inside)["latency"]
    if outside:
        if outside.process.poll() is not None:
            sys.exit(f"the storm was over before what it was to delay:\n{outside.process.stdout.read()}")
        outside.process.terminate()
        outside.process.wait()
    return {**{figure: latency[figure] for figure in ("p50_us", "p99_us", "p999_us")}, "hashing_percent": 100 * hashing / seconds}


def ahead_of_all():
    """Hashing takes every CPU, the generator's too: without this its own waiting would be told as the broker's latency."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


# --- broker and generator ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def broker(place, transport, passwords=False):
    """A broker that was just started, ended at the end."""
    port = free_port()
    document = place.directory / "ringmq.toml"
    document.write_text(configuration(place, port, transport, passwords))
    log = place.directory / "broker.log"
    with log.open("w") as out:
        process = subprocess.Popen([RINGMQ, "--config", str(document)], stderr=out, stdout=out)
    try:
        await_port(port, process, log)
        yield Running(place, process.pid, port, transport)
    finally:
        process.terminate()
        process.wait()


def configuration(place, port, transport, passwords):
    said = f'[server]\nshards = 1\ncpus = "{BROKER_CPU}"\n[[listener]]\naddress = "127.0.0.1:{port}"\ntransport = "{transport}"\n'
    if transport in ("tls", "wss"):
        said += f'[listener.tls]\ncertificate = "{place.directory}/server.pem"\nkey = "{place.directory}/server.key"\n'
    if passwords:
        users = password_file(place.directory)
        said += f'[auth]\nmethods = ["password"]\nworkers = {STORM_WORKERS}\n[auth.password]\nfile = "{users}"\n'
    return said


def password_file(directory):
    """One user whose password is dear to verify (argon2id), one who has the single SHA-512 that mosquitto once wrote."""
    users = directory / "users"
    users.unlink(missing_ok=True)
    subprocess.run([RINGMQ, "passwd", "--stdin", str(users), "storm"], input=b"secret\n", check=True, capture_output=True)
    salt = os.urandom(12)
    digest = hashlib.sha512(b"secret" + salt).digest()
    with users.open("a") as file:
        file.write(f"inside:$6${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n")
    return users


class Running:
    def __init__(self, place, pid, port, transport):
        self.place, self.pid, self.port, self.transport = place, pid, port, transport

    def generate(self, scenario, *more):
        return self.result_of(self.start(scenario, *more))

    def start(self, scenario, *more, user=None, before=None, watch=True):
        result = self.place.directory / f"{scenario}-{user}.json"
        result.unlink(missing_ok=True)
        command = [LOADGEN, "run", scenario, "--host", f"127.0.0.1:{self.port}", "--transport", self.transport, "--quiet"]
        command += ["--cpus", GENERATOR_CPU, "--json", str(result), *more]
        if watch:
            command += ["--broker-pid", str(self.pid)]
        if self.transport in ("tls", "wss"):
            command += ["--ca", str(self.place.directory / "ca.pem"), "--sni", "localhost"]
        if user:
            command += ["--user", user, "--password", "secret"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=before)
        return Run(process, result)

    def result_of(self, run):
        said, _ = run.process.communicate()
        if run.process.returncode != 0:
            sys.exit(f"the generator failed:\n{said}")
        return json.loads(run.result.read_text())["summary"]

    def hashing_seconds(self):
        """CPU that the threads which verify passwords have used."""
        ticks = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            name, _, rest = (task / "stat").read_text().partition(") ")
            if "(auth " in name:
                fields = rest.split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


class Run(typing.NamedTuple):
    process: subprocess.Popen
    result: pathlib.Path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(port, process, log):
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    sys.exit(f"the broker did not start:\n{log.read_text()}")


def certificates(directory):
    """An authority, and a certificate of localhost that it signed."""
    if not shutil.which("openssl"):
        sys.exit("openssl is missing, which makes the certificates: install it")

    def openssl(words):
        subprocess.run(["openssl", *words.split()], cwd=directory, check=True, capture_output=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    openssl(f"req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority")
    openssl(f"req {key} -keyout server.key -out server.csr -subj /CN=localhost")
    (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names")


if __name__ == "__main__":
    main()
