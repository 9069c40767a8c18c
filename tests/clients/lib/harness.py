"""What every suite shares: a broker as a child process, a test list, one deadline for everything.

A suite is a program. It prints `ok NAME` or `FAIL NAME reason` for each test and closes with
`N passed, N failed`; its exit code says the same. Where the broker is, it learns from the environment
(E2E_PORT, E2E_BROKER, E2E_SHARDS), which `run.py` sets.
"""

import contextlib
import os
import pathlib
import queue
import random
import shlex
import signal
import socket
import string
import subprocess
import sys
import threading
import time
import traceback

HOST = "127.0.0.1"
DEADLINE_S = 10.0  # one awaited event
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent  # where broker command lines are meant to run
TEST_S = 60.0  # one test, whatever it awaits


class Failure(Exception):
    """A test's expectation was not met."""


def check(condition, why):
    """Fails the test with `why` unless the condition holds."""
    if not condition:
        raise Failure(why)


def equal(got, want, what="value"):
    """Fails the test unless the two are equal."""
    if got != want:
        raise Failure(f"{what}: got {shorten(got)}, want {shorten(want)}")


def shorten(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"


def token(prefix="c"):
    """A fresh random name. As client identifier it lands on any shard."""
    return prefix + "".join(random.choices(string.ascii_lowercase + string.digits, k=12))


def fresh_topic(*levels):
    """A topic no other test uses."""
    return "/".join((token("t"), *levels))


def await_until(condition, what, timeout=DEADLINE_S):
    """Polls what has no event to wait for (a process, a port)."""
    deadline = time.monotonic() + timeout
    while not condition():
        check(time.monotonic() < deadline, f"timed out after {timeout:g} s waiting for {what}")
        time.sleep(0.01)


def take(source, what, timeout=DEADLINE_S):
    """The next item of a queue, or a failure that says what was awaited."""
    try:
        return source.get(timeout=timeout)
    except queue.Empty:
        raise Failure(f"timed out after {timeout:g} s waiting for {what}") from None


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


class Broker:
    """A broker of its own, started from a command line with `{port}` and `{shards}` in it."""

    def __init__(self, template, shards, log_path, port=None):
        self.port = port or free_port()
        self.command = shlex.split(template.format(port=self.port, shards=shards))
        self.log_path = log_path
        self.log = open(log_path, "wb")
        # A group of its own, so that Ctrl-C reaches the tests first and they stop it in order.
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def ready(self):
        """Returns once the port accepts; fails when the process ends first."""

        def listening():
            check(self.alive(), f"{self.command[0]} ended with {self.process.returncode}: {self.log_tail()}")
            with socket.socket() as probe:
                return probe.connect_ex((HOST, self.port)) == 0

        await_until(listening, f"{self.command[0]} to listen on {self.port}")
        return self

    def environment(self):
        """What a suite is told beyond the port."""
        return {}

    def alive(self):
        return self.process.poll() is None

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout=DEADLINE_S):
        """The exit code, or a failure when it does not come in time."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.command[0]} still runs {timeout:g} s after it was told to stop") from None

    def stop(self):
        """Stops it in order and returns the exit code."""
        if self.alive():
            self.terminate()
        try:
            return self.wait()
        finally:
            self.kill()

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()
        self.log.close()

    def log_tail(self, lines=8):
        with open(self.log_path, errors="replace") as log:
            return " | ".join(line.strip() for line in log.readlines()[-lines:])


class Test:
    """What a running test holds; all of it is closed when the test ends, however it ends."""

    def __init__(self, port):
        self.port = port
        self.cleanup = contextlib.ExitStack()

    def adopt(self, thing, close):
        """Has `close` called at the end of the test, and returns the thing."""

        def quietly():
            with contextlib.suppress(Exception):
                close()

        self.cleanup.callback(quietly)
        return thing


class Suite:
    """A list of named tests, run in the order they were written."""

    def __init__(self, name):
        self.name = name
        self.tests = []

    def test(self, function):
        """Registers a test named after its function."""
        return self.each()(function)

    def each(self, *variants):
        """Registers one test per variant `(label, value)`, called with the value as second argument."""

        def register(function):
            name = function.__name__.replace("_", "-")
            for label, value in variants:
                self.tests.append((f"{self.name}/{name}[{label}]", lambda t, value=value: function(t, value)))
            if not variants:
                self.tests.append((f"{self.name}/{name}", function))
            return function

        return register

    def main(self):
        """Runs the tests whose names hold one of the arguments (all without), and exits."""
        wanted = sys.argv[1:]
        port = int(os.environ["E2E_PORT"])
        passed = failed = 0
        for name, function in self.tests:
            if wanted and not any(part in name for part in wanted):
                continue
            reason = run_one(function, port)
            if reason is None:
                passed += 1
                print(f"ok {name}", flush=True)
            else:
                failed += 1
                print(f"FAIL {name} {reason}", flush=True)
        print(f"{passed} passed, {failed} failed", flush=True)
        # Threads of a client library that hang must not keep the suite from ending.
        sys.stdout.flush()
        os._exit(1 if failed else 0)


def run_one(function, port):
    """None when the test passed, otherwise the reason on one line."""
    outcome = queue.Queue()

    def body():
        test = Test(port)
        try:
            with test.cleanup:
                function(test)
            outcome.put(None)
        except Failure as failure:
            outcome.put(f"{failure} ({where(failure)})")
        except BaseException as error:  # a broken test is a failed test, never a silent one
            outcome.put(f"{type(error).__name__}: {error} ({where(error)})")

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    try:
        reason = outcome.get(timeout=TEST_S)
    except queue.Empty:
        frame = sys._current_frames().get(thread.ident)
        stack = traceback.extract_stack(frame) if frame else []
        reason = f"hangs after {TEST_S:g} s at " + " < ".join(f"{f.name}:{f.lineno}" for f in reversed(stack[-4:]))
    return None if reason is None else " ".join(reason.split())


def where(error):
    """The innermost line of the test itself, not of this file."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "harness"
