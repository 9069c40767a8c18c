"""MQTT on the wire, as small as the tests need it: build any packet (also a wrong one), read what comes back."""

import socket
import struct
import time

from lib.harness import DEADLINE_S, HOST, Failure, check, equal

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)
NAMES = (
    "RESERVED CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK "
    "PINGREQ PINGRESP DISCONNECT AUTH"
).split()
PROTOCOL = {3: b"MQIsdp", 4: b"MQTT", 5: b"MQTT"}


def varint(value):
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def binary(data):
    """A length-prefixed string or binary field; takes bytes so that invalid UTF-8 can be written."""
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">H", len(data)) + data


def packet(first_byte, body=b""):
    return bytes([first_byte]) + varint(len(body)) + body


def properties(version, raw):
    return varint(len(raw)) + raw if version == 5 else b""


def connect(client_id, version=5, clean=True, keep_alive=60, props=b"", flags=0, tail=b""):
    body = binary(PROTOCOL[version]) + bytes([version, flags | (2 if clean else 0)]) + struct.pack(">H", keep_alive)
    return packet(0x10, body + properties(version, props) + binary(client_id) + tail)


def publish(topic, payload=b"", qos=0, packet_id=None, version=5, props=b"", flags=0):
    body = binary(topic) + (struct.pack(">H", packet_id) if packet_id is not None else b"")
    return packet(0x30 | qos << 1 | flags, body + properties(version, props) + payload)


def subscribe(packet_id, topic_filter, options=0, version=5, props=b""):
    return packet(0x82, struct.pack(">H", packet_id) + properties(version, props) + binary(topic_filter) + bytes([options]))


def unsubscribe(packet_id, topic_filter, version=5):
    return packet(0xA2, struct.pack(">H", packet_id) + properties(version, b"") + binary(topic_filter))


def ack(kind, packet_id):
    return packet(kind << 4 | (2 if kind == PUBREL else 0), struct.pack(">H", packet_id))


def user_property(name, value):
    return b"\x26" + binary(name) + binary(value)


class Packet:
    """A received packet: kind, flags and undecoded body."""

    def __init__(self, first_byte, body):
        self.kind, self.flags, self.body = first_byte >> 4, first_byte & 15, body

    def __repr__(self):
        return f"{NAMES[self.kind]}({self.flags:x}, {self.body[:40].hex()})"

    @property
    def packet_id(self):
        if self.kind == PUBLISH:
            after_topic = 2 + struct.unpack_from(">H", self.body)[0]
            return struct.unpack_from(">H", self.body, after_topic)[0]
        return struct.unpack_from(">H", self.body)[0]

    @property
    def qos(self):
        return self.flags >> 1 & 3

    @property
    def reason(self):
        """The reason code of a CONNACK, DISCONNECT or acknowledgment; absent means 0."""
        at = {CONNACK: 1, DISCONNECT: 0}.get(self.kind, 2)
        return self.body[at] if len(self.body) > at else 0

    def payload(self, version=5):
        at = 2 + struct.unpack_from(">H", self.body)[0] + (2 if self.qos else 0)
        if version == 5:
            length, at = read_varint(self.body, at)
            at += length
        return self.body[at:]

    def property_bytes(self):
        """A CONNACK's properties, undecoded."""
        length, at = read_varint(self.body, 2)
        return self.body[at : at + length]


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


class Raw:
    """A socket that speaks packets, in order or not."""

    def __init__(self, t, port=None):
        self.socket = socket.create_connection((HOST, port or t.port), timeout=DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        t.adopt(self, self.socket.close)

    def send(self, data):
        """Sends; a peer that has closed already is not an error here, the next read shows it."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return self

    def open(self, client_id, version=5, **options):
        """Connects and expects success; returns the CONNACK."""
        self.send(connect(client_id, version, **options))
        connack = self.expect(CONNACK)
        equal(connack.reason, 0, "CONNACK reason")
        return connack

    def fence(self):
        """Returns what the broker had sent before it answered a ping that is sent now."""
        self.send(packet(0xC0))
        before = []
        while (got := self.read()) is not None and got.kind != PINGRESP:
            before.append(got)
        check(got is not None, "closed instead of PINGRESP")
        return before

    def read(self, timeout=DEADLINE_S):
        """The next packet; None when the broker has closed."""
        deadline = time.monotonic() + timeout
        while (whole := self._whole()) is None:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise Failure(f"neither a packet nor a close within {timeout:g} s") from None
            except (ConnectionResetError, BrokenPipeError):
                return None
            if not data:
                return None
            self.buffer += data
        return whole

    def _whole(self):
        if len(self.buffer) < 2:
            return None
        try:
            length, at = read_varint(self.buffer, 1)
        except IndexError:
            return None
        if len(self.buffer) < at + length:
            return None
        got = Packet(self.buffer[0], bytes(self.buffer[at : at + length]))
        del self.buffer[: at + length]
        return got

    def expect(self, kind, timeout=DEADLINE_S):
        got = self.read(timeout)
        check(got is not None and got.kind == kind, f"got {got or 'a close'}, want {NAMES[kind]}")
        return got

    def expect_close(self, *reasons, timeout=DEADLINE_S):
        """The broker ends the connection; in 5.0 it may say why first, and then only with one of `reasons`."""
        said = None
        while (got := self.read(timeout)) is not None:
            if got.kind in (DISCONNECT, CONNACK):
                said = got
                break
            check(got.kind in (PINGRESP, PUBACK, PUBREC, SUBACK), f"got {got}, want the connection to end")
        if said is None:
            return None
        if reasons:
            wanted = ", ".join(f"0x{reason:02x}" for reason in reasons)
            check(said.reason in reasons, f"{NAMES[said.kind]} 0x{said.reason:02x}, want {wanted}")
        check(self.read(timeout) is None, f"still open after {said}")
        return said.reason
