"""Starts a broker, drives it with one suite of real clients after the other, and adds up. See run.sh for the usage."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from lib.harness import Broker, Failure
from lib.secure import SecureBroker

HERE = pathlib.Path(__file__).resolve().parent
SUITE_S = 240  # one suite; each of its tests has a deadline of its own

PYTHON = [sys.executable, "-u"]
SUITES = {
    "mosquitto": [*PYTHON, "mosquitto_suite.py"],
    "paho": [*PYTHON, "paho_suite.py"],
    "paho5": [*PYTHON, "paho5_suite.py"],
    "raw": [*PYTHON, "raw_suite.py"],
    "mqttjs": ["node", "mqttjs_suite.mjs"],
    "rumqttc": ["rumqttc/target/debug/rumqttc-suite"],
    "lifecycle": [*PYTHON, "lifecycle_suite.py"],
    "secure": [*PYTHON, "secure_suite.py"],
    "browser": ["node", "browser_suite.mjs"],
}
SECURE = {"secure", "browser"}  # their broker has every transport, users and rules: not for a control broker
ONCE = {"browser"}  # slow to start, and the same on any number of shards: on one, unless asked for by name


def arguments():
    parser = argparse.ArgumentParser(description="End-to-end tests of an MQTT broker with real clients.")
    parser.add_argument("--broker", required=True, help="command line with {port} and {shards} in it")
    parser.add_argument("--shards", default="1", help="for {shards} (default 1)")
    parser.add_argument("--only", default="", help="run only tests whose name holds this (an empty suite passes)")
    parser.add_argument("--known", help="deviations of a control broker: lines of `NAME reason`")
    parser.add_argument("suite", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)} (default all)")
    options = parser.parse_args()
    if unknown := set(options.suite) - set(SUITES):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    return options


def chosen(options):
    """The suites to run: those that were asked for, or those that make sense of all there are."""
    left_out = (SECURE if options.known else set()) | (ONCE if options.shards != "1" else set())
    return options.suite or [name for name in SUITES if name not in left_out]


def read_known(path):
    """Test name → why the control broker fails it."""
    known = {}
    if path:
        for line in pathlib.Path(path).read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                name, _, reason = line.partition(" ")
                known[name] = reason.strip()
    return known


class Tally:
    """Counts results and prints each line as it comes."""

    def __init__(self, known):
        self.known, self.passed, self.failed, self.deviations = known, 0, 0, 0

    def ok(self, name):
        self.passed += 1
        print(f"ok {name}", flush=True)
        if name in self.known:
            print(f"note {name} passes although it is listed as known: {self.known[name]}", flush=True)

    def fail(self, name, reason):
        if name in self.known:
            self.deviations += 1
            print(f"known {name} {self.known[name]}", flush=True)
            return
        self.failed += 1
        print(f"FAIL {name} {reason}", flush=True)

    def close(self):
        print(f"{self.passed} passed, {self.failed} failed" + (f", {self.deviations} known" if self.known else ""))


def start(name, options, log):
    if name in SECURE:
        return SecureBroker(options.broker, options.shards, log, log.with_suffix(".files")).ready()
    return Broker(options.broker, options.shards, log).ready()


def run_suite(name, options, tally, log):
    """A suite against a broker of its own; the broker must survive it and stop in order."""
    try:
        broker = start(name, options, log)
    except (Failure, OSError, subprocess.CalledProcessError) as failure:
        tally.fail(f"{name}/broker-starts", str(failure))
        return
    try:
        drive(name, options, tally, broker)
        alive, code = broker.alive(), broker.stop()
        reason = f"exit code {code}" if alive else f"died during the suite with {code}"
        if alive and code == 0:
            tally.ok(f"{name}/broker-survives-and-exits-0")
        else:
            tally.fail(f"{name}/broker-survives-and-exits-0", f"{reason}: {broker.log_tail()}")
    except Failure as failure:
        tally.fail(f"{name}/broker-survives-and-exits-0", str(failure))
    finally:
        broker.kill()


def drive(name, options, tally, broker):
    """Runs the suite's program and takes over its result lines; any other line is passed on."""
    environment = dict(os.environ, E2E_PORT=str(broker.port), E2E_BROKER=options.broker, E2E_SHARDS=options.shards)
    environment |= broker.environment()
    command = ["timeout", "--kill-after=5", str(SUITE_S), *SUITES[name], *([options.only] if options.only else [])]
    seen, closing = [0, 0], None
    with subprocess.Popen(
        command, cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout:
            line = line.rstrip()
            word, _, rest = line.partition(" ")
            if word == "ok":
                seen[0] += 1
                tally.ok(rest)
            elif word == "FAIL":
                seen[1] += 1
                tally.fail(*(rest.split(" ", 1) + [""])[:2])
            elif line.endswith(" failed") and " passed, " in line:
                closing = line
            else:
                print(f"  {line}", flush=True)
    # A suite that dies half-way must not look like a short one that passed.
    if closing != f"{seen[0]} passed, {seen[1]} failed" or process.returncode != (1 if seen[1] else 0):
        tally.fail(f"{name}/suite-completes", f"exit code {process.returncode}, closing line {closing!r}, lines {seen}")


def main():
    options = arguments()
    tally = Tally(read_known(options.known))
    logs = pathlib.Path(os.environ.get("E2E_LOGS") or tempfile.mkdtemp(prefix="e2e-"))
    logs.mkdir(parents=True, exist_ok=True)
    print(f"broker: {options.broker} ({options.shards} shards); its logs: {logs}", flush=True)
    for name in chosen(options):
        started = time.monotonic()
        run_suite(name, options, tally, logs / f"broker-{name}-{options.shards}.log")
        print(f"# {name}: {time.monotonic() - started:.1f} s", flush=True)
    tally.close()
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
