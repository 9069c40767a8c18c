#!/usr/bin/env python3
"""What one reader that stops costs the others: fan-out in open loop, with and without it, in interleaved rounds.

    cargo build --release --workspace
    benches/stopped.py                      about 2 minutes: 8 rounds of 4 s, twice
    benches/stopped.py --qos 1 --readers 200 --interval 5ms --rounds 8 --seconds 4

The reader subscribes to what all others read and never takes a byte from its socket. Before each run it is filled up: its
socket, the broker's output for it (limits.output_bytes_max) and, at QoS 1, its queue, so that the broker meets it
at each message. Prints the broker's instructions and CPU per delivery and the latency of the others, medians over the
rounds and of each round's ratio, and fails where more is lost than the bars below allow. Broker on CPU 0, generator on
CPU 1, ahead of all others (CAP_SYS_NICE); loops of the idle class keep both CPUs awake, whose sleep costs more than the reader.
"""

import argparse
import json
import pathlib
import socket
import statistics
import struct
import subprocess
import sys
import tempfile

from access import LOADGEN, RINGMQ, ahead_of_all, awake, await_port, free_port

# How much more the others may cost, and wait, beside the noise of a quiet machine.
BARS = {"instructions": 1.02, "cpu_us": 1.05, "p99_us": 1.25}
FILL, FILL_MESSAGES = 512 * 1024, 64


def main():
    options = arguments()
    figures = {False: [], True: []}
    for number in range(options.rounds):
        for stopped in (False, True) if number % 2 == 0 else (True, False):
            figures[stopped].append(one_run(options, stopped))
            print("with   " if stopped else "without", figures[stopped][-1], flush=True)
    missed = False
    for name in figures[False][0]:
        without, with_it = ([run[name] for run in figures[stopped]] for stopped in (False, True))
        if None in without + with_it:
            print(f"{name:12} can't be counted on this machine")
            continue
        ratio = statistics.median(b / a for a, b in zip(without, with_it, strict=True))
        missed |= ratio > BARS.get(name, float("inf"))
        before, after = statistics.median(without), statistics.median(with_it)
        print(f"{name:12} without {before:9.3f}  with {after:9.3f}  ratio {ratio:.3f}  (bar {BARS.get(name, '-')})")
    return 1 if missed else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0)
    parser.add_argument("--readers", type=int, default=200, help="those that read (default 200)")
    parser.add_argument("--interval", default="5ms", help="between two messages (default 5ms)")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=4, help="length of the measured window (default 4)")
    return parser.parse_args()


def one_run(options, stopped):
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        config = pathlib.Path(directory) / "ringmq.toml"
        config.write_text(f'[server]\nshards = 1\ncpus = "0"\n[[listener]]\naddress = "127.0.0.1:{port}"\n')
        log = pathlib.Path(directory) / "broker.log"
        with log.open("w") as out:
            broker = subprocess.Popen([RINGMQ, "serve", "--config", config], stderr=out)
        try:
            await_port(port, broker, log)
            # Filled either way, so that the broker's heap is alike; where it is to be without, it goes before the run.
            reader = stopped_reader(port, options.qos)
            if not stopped:
                reader.close()
            result = generate(options, port, broker.pid, directory)
            reader.close()
        finally:
            broker.terminate()
            broker.wait()
    return result


def generate(options, port, pid, directory):
    command = [LOADGEN, "run", "fanout-1-1K-1-1K", "--host", f"127.0.0.1:{port}", "--broker-pid", str(pid), "--cpus", "1"]
    command += ["--set", f"subscribers={options.readers}", "--set", f"interval={options.interval}"]
    command += ["--qos", str(options.qos), "--duration", f"{options.seconds}s", "--out", directory]
    with awake():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=ahead_of_all)
    summary = json.loads((pathlib.Path(directory) / "result.json").read_text())["summary"]
    latency = summary["latency"]
    return {
        "instructions": summary["broker"]["instructions_per_message"],
        "cpu_us": summary["broker"]["cpu_us_per_message"],
        "p50_us": latency["p50_us"],
        "p99_us": latency["p99_us"],
    }


# --- a client that stops reading ---------------------------------------------------------------------------------------


def stopped_reader(port, qos):
    """Connected, subscribed to what is measured, and full."""
    reader = connect(port, b"stopped", receive_bytes=4096)
    filters = b"".join(text(name) + bytes([qos]) for name in (b"test/1", b"fill"))
    reader.sendall(packet(0x82, b"\0\1" + filters))
    assert read_packet(reader)[0] == 0x90, "SUBACK"
    filler = connect(port, b"filler")
    for number in range(1, FILL_MESSAGES + 1):
        packet_id = struct.pack(">H", number) if qos else b""
        filler.sendall(packet(0x30 | qos << 1, text(b"fill") + packet_id + bytes(FILL)))
        if qos:
            assert read_packet(filler)[0] == 0x40, "PUBACK"
    filler.sendall(packet(0xC0, b""))
    assert read_packet(filler)[0] == 0xD0, "PINGRESP"
    filler.close()
    return reader


def connect(port, client_id, receive_bytes=None):
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(30)
    client.connect(("127.0.0.1", port))
    client.sendall(packet(0x10, text(b"MQTT") + b"\4\2\0\0" + text(client_id)))
    assert read_packet(client)[0] == 0x20, "CONNACK"
    return client


def packet(first, body):
    length, left = b"", len(body)
    while True:
        left, byte = left >> 7, left & 0x7F
        length += bytes([byte | 0x80 if left else byte])
        if not left:
            return bytes([first]) + length + body


def text(value):
    return struct.pack(">H", len(value)) + value


def read_packet(client):
    """A packet of at most 127 bytes."""
    head = exactly(client, 2)
    return head + exactly(client, head[1])


def exactly(client, count):
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        assert more, "the broker closed the connection"
        data += more
    return data


if __name__ == "__main__":
    sys.exit(main())
