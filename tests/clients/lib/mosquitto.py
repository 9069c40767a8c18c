"""mosquitto_pub and mosquitto_sub as child processes."""

import queue
import re
import signal
import subprocess
import threading

from lib.harness import DEADLINE_S, HOST, Failure, check, equal, take

V31, V311, V5 = "mqttv31", "mqttv311", "mqttv5"
VERSIONS = (("3.1", V31), ("3.1.1", V311), ("5.0", V5))


def pub(t, version, *args, stdin=None, expect=0):
    """Runs mosquitto_pub to its end and returns what it wrote."""
    command = ["mosquitto_pub", "-h", HOST, "-p", str(t.port), "-V", version, *map(str, args)]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=3 * DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(command)[:200]} did not end") from None
    text = (done.stdout + done.stderr).decode(errors="replace")
    equal(done.returncode, expect, f"exit code of mosquitto_pub ({text.strip()[-200:]})")
    return text


class Sub:
    """A running mosquitto_sub. Ready once its SUBACK came; its messages are lines in the given format."""

    def __init__(self, t, version, *args, form="%p", count=None, suback=True):
        self.command = ["mosquitto_sub", "-h", HOST, "-p", str(t.port), "-V", version, "-d", "-F", f"MSG {form}"]
        self.command += [*(["-C", str(count)] if count else []), *map(str, args)]
        # -d tells of the SUBACK; without a terminal its lines come late unless the buffer is a line.
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", *self.command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.lines, self.notes, self.subscribed = queue.Queue(), [], queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        t.adopt(self, self.kill)
        if suback:
            self.granted = take(self.subscribed, f"SUBACK: {' '.join(self.command[6:])[:200]}")

    def _read(self):
        for line in self.process.stdout:
            line = line.rstrip(b"\n")
            if line.startswith(b"MSG "):
                self.lines.put(line[4:])
                continue
            note = line.decode(errors="replace")
            self.notes.append(note)
            if match := re.match(r"Subscribed \(mid: \d+\): (.*)", note):
                self.subscribed.put([int(code) for code in match[1].split(", ")])

    def line(self, timeout=DEADLINE_S, what="a message"):
        return take(self.lines, f"{what} ({'; '.join(self.notes[-3:])})", timeout)

    def take(self, count):
        return [self.line(what=f"message {number + 1} of {count}") for number in range(count)]

    def only(self, *want):
        """Its next messages are these (text is encoded)."""
        equal(self.take(len(want)), [each.encode() if isinstance(each, str) else each for each in want], "messages")
        return self

    def ended(self, expect=0):
        """Waits for its own end (-C, -W, an error) and returns the lines not taken yet."""
        try:
            code = self.process.wait(2 * DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"mosquitto_sub did not end ({'; '.join(self.notes[-3:])})") from None
        self.reader.join(DEADLINE_S)
        equal(code, expect, f"exit code of mosquitto_sub ({'; '.join(self.notes[-3:])})")
        return list(self.lines.queue)

    def leave(self):
        """SIGTERM: mosquitto_sub sends DISCONNECT and ends."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE_S)

    def kill(self):
        """SIGKILL: the connection breaks without DISCONNECT."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def nothing_but(self, marker):
        """Its next message is the marker: what would have come before it did not."""
        equal(self.line(), marker.encode(), "message")
        check(self.lines.empty(), "more than the marker")
