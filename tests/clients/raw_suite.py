"""Bare sockets that break the rules. Each test ends with a bystander that must not have noticed."""

import random
import socket
import struct
import threading
import time

from lib.harness import Failure, Suite, check, equal, fresh_topic, token
from lib.wire import *
from lib.wire import packet as raw_packet

suite = Suite("raw")
CONNECT_TIMEOUT_S = 45  # the broker's own is to be shorter
MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
BROKEN = (MALFORMED, PROTOCOL_ERROR)  # where the specification leaves a choice or its two texts differ
NOT_CLOSED_YET = {}


class Bystander:
    """A well-behaved client that sends to itself all the time and remembers its worst round trip."""

    def __init__(self, port):
        self.topic, self.failure, self.rounds, self.worst_s = fresh_topic("bystander"), None, 0, 0.0
        self.link = Raw(OwnedByNobody(port))
        self.link.open(token(), version=4)
        self.link.send(subscribe(1, self.topic, 1, version=4)).expect(SUBACK)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                self.round_trip()
                time.sleep(0.002)  # a pace, so that the tests have the processor
        except Exception as failure:
            self.failure = failure

    def round_trip(self):
        started, payload = time.monotonic(), b"%d" % self.rounds
        self.link.send(publish(self.topic, payload, 1, 1 + self.rounds % 60_000, version=4))
        kinds = {}
        while len(kinds) < 2:
            got = self.link.read()
            check(got is not None, "the bystander's connection was closed")
            kinds[got.kind] = got
        equal(kinds[PUBLISH].payload(version=4), payload, "the bystander's message")
        self.link.send(ack(PUBACK, kinds[PUBLISH].packet_id))
        self.worst_s = max(self.worst_s, time.monotonic() - started)
        self.rounds += 1

    def undisturbed(self):
        """Returns after one more whole round trip."""
        start, deadline = self.rounds, time.monotonic() + 5
        while self.rounds < start + 2:
            check(self.failure is None, f"bystander: {self.failure}")
            check(time.monotonic() < deadline, "the bystander waits for its message for more than 5 s")
            time.sleep(0.001)


class OwnedByNobody:
    """Stands in for a test: what lives as long as the suite needs no closing."""

    def __init__(self, port):
        self.port = port

    def adopt(self, thing, _close):
        return thing


bystander = None


def test(*variants):
    """As `suite.each`, with the bystander watching."""

    def register(function):
        def watched(t, *value):
            global bystander
            bystander = bystander or Bystander(t.port)
            bystander.undisturbed()
            function(t, *value)
            bystander.undisturbed()

        watched.__name__ = function.__name__
        return suite.each(*variants)(watched)

    return register


@test()
def clients_that_never_connect_are_accepted_for_now(t):
    """Opens what the last test of this suite expects to be closed."""
    nobody = OwnedByNobody(t.port)
    NOT_CLOSED_YET["silent"] = Raw(nobody)
    NOT_CLOSED_YET["half a CONNECT"] = Raw(nobody).send(connect(token())[:9])
    NOT_CLOSED_YET["a length and no packet"] = Raw(nobody).send(b"\x10\xff")
    NOT_CLOSED_YET["started"] = time.monotonic()


# --- after a CONNECT that is in order -------------------------------------------------------------------------------

BOTH, V5_ONLY = (4, 5), (5,)
# name: (versions, packet builder, reason codes a 5.0 broker may close with)
BROKEN_PACKETS = {
    "reserved packet type 0": (BOTH, lambda v: b"\x00\x00", BROKEN),
    "CONNACK from a client": (BOTH, lambda v: raw_packet(0x20, b"\0\0" + properties(v, b"")), BROKEN),
    "SUBACK from a client": (BOTH, lambda v: raw_packet(0x90, b"\0\1" + properties(v, b"") + b"\0"), BROKEN),
    "PINGRESP from a client": (BOTH, lambda v: raw_packet(0xD0), BROKEN),
    "second CONNECT": (BOTH, lambda v: connect(token(), v), BROKEN),
    "AUTH out of the blue": (BOTH, lambda v: raw_packet(0xF0), (*BROKEN, 0x8C)),
    "five-byte remaining length": (BOTH, lambda v: b"\x30\xff\xff\xff\xff\x01", BROKEN),
    "five-byte remaining length of zero": (BOTH, lambda v: b"\xc0\x80\x80\x80\x80\x00", BROKEN),
    "SUBSCRIBE with wrong flags": (BOTH, lambda v: b"\x80" + subscribe(1, "a", 0, v)[1:], BROKEN),
    "SUBSCRIBE without a filter": (BOTH, lambda v: raw_packet(0x82, b"\0\1" + properties(v, b"")), BROKEN),
    "SUBSCRIBE with packet identifier 0": (BOTH, lambda v: subscribe(0, "a", 0, v), BROKEN),
    "SUBSCRIBE at QoS 3": (BOTH, lambda v: subscribe(1, "a", 3, v), BROKEN),
    "SUBSCRIBE with reserved option bits": (BOTH, lambda v: subscribe(1, "a", 0xC0, v), BROKEN),
    "SUBSCRIBE with retain handling 3": (V5_ONLY, lambda v: subscribe(1, "a", 0x30), BROKEN),
    "SUBSCRIBE with subscription identifier 0": (V5_ONLY, lambda v: subscribe(1, "a", 0, props=b"\x0b\0"), BROKEN),
    "SUBSCRIBE, shared and no local": (V5_ONLY, lambda v: subscribe(1, "$share/g/a", 4), BROKEN),
    "SUBSCRIBE cut short": (BOTH, lambda v: raw_packet(0x82, b"\0\1" + properties(v, b"") + b"\0\5ab"), BROKEN),
    "UNSUBSCRIBE without a filter": (BOTH, lambda v: raw_packet(0xA2, b"\0\1" + properties(v, b"")), BROKEN),
    "UNSUBSCRIBE with wrong flags": (BOTH, lambda v: b"\xa0" + unsubscribe(1, "a", v)[1:], BROKEN),
    "PUBLISH at QoS 3": (BOTH, lambda v: publish("a", b"", 3, 1, v), BROKEN),
    "PUBLISH at QoS 1 with packet identifier 0": (BOTH, lambda v: publish("a", b"", 1, 0, v), BROKEN),
    "PUBLISH at QoS 0 with DUP": (BOTH, lambda v: publish("a", b"", 0, None, v, flags=8), BROKEN),
    "PUBLISH without a topic": (BOTH, lambda v: publish("", b"x", 0, None, v), (*BROKEN, 0x90)),
    "PUBLISH shorter than its topic": (BOTH, lambda v: raw_packet(0x30, b"\0\x20abc"), BROKEN),
    "PUBLISH of nothing at all": (BOTH, lambda v: raw_packet(0x30), BROKEN),
    "PUBLISH with + in the topic": (BOTH, lambda v: publish("a/+/b", b"x", 1, 1, v), (*BROKEN, 0x90)),
    "PUBLISH with # in the topic": (BOTH, lambda v: publish("a/#", b"x", 0, None, v), (*BROKEN, 0x90)),
    "PUBLISH with U+0000 in the topic": (BOTH, lambda v: publish("a\0b", b"x", 0, None, v), (*BROKEN, 0x90)),
    "PUBLISH with invalid UTF-8": (BOTH, lambda v: publish(b"a\xff\xfe", b"x", 0, None, v), (*BROKEN, 0x90)),
    "PUBLISH with an overlong UTF-8 slash": (BOTH, lambda v: publish(b"a\xc0\xaf", b"x", 0, None, v), (*BROKEN, 0x90)),
    "PUBLISH with a UTF-8 surrogate": (BOTH, lambda v: publish(b"a\xed\xa0\x80", b"x", 0, None, v), (*BROKEN, 0x90)),
    "PUBLISH with topic alias 0": (V5_ONLY, lambda v: publish("a", props=b"\x23\0\0"), (0x94, *BROKEN)),
    "PUBLISH with a topic alias too high": (V5_ONLY, lambda v: publish("a", props=b"\x23\xff\xff"), (0x94,)),
    "PUBLISH with an alias never set": (V5_ONLY, lambda v: publish("", props=b"\x23\0\1"), (0x94, *BROKEN)),
    "PUBLISH with a subscription identifier": (V5_ONLY, lambda v: publish("a", props=b"\x0b\1"), BROKEN),
    "PUBLISH with an unknown property": (V5_ONLY, lambda v: publish("a", props=b"\x7f\1"), BROKEN),
    "PUBLISH with a CONNECT property": (V5_ONLY, lambda v: publish("a", props=b"\x11\0\0\0\1"), BROKEN),
    "PUBLISH with a property twice": (V5_ONLY, lambda v: publish("a", props=b"\x03\0\1x\x03\0\1x"), BROKEN),
    "PUBLISH with payload format 2": (V5_ONLY, lambda v: publish("a", props=b"\x01\2"), BROKEN),
    "PUBLISH with + in the response topic": (V5_ONLY, lambda v: publish("a", props=b"\x08" + binary("a/+")), (*BROKEN, 0x90)),
    "PUBLISH with properties past its end": (V5_ONLY, lambda v: raw_packet(0x30, binary("a") + b"\x40\1\1"), BROKEN),
    "PUBLISH with a cut property": (V5_ONLY, lambda v: publish("a", props=b"\x26\0\1x"), BROKEN),
    "PUBLISH with a five-byte property length": (
        V5_ONLY, lambda v: raw_packet(0x30, binary("a") + b"\x80\x80\x80\x80\1"), BROKEN
    ),
    "PUBREL with wrong flags": (BOTH, lambda v: raw_packet(0x60, b"\0\1"), BROKEN),
    "PUBACK of one byte": (BOTH, lambda v: raw_packet(0x40, b"\0"), BROKEN),
    "PINGREQ with a body": (BOTH, lambda v: raw_packet(0xC0, b"\0"), BROKEN),
    "PINGREQ with flags": (BOTH, lambda v: raw_packet(0xC1), BROKEN),
    "DISCONNECT with flags": (BOTH, lambda v: raw_packet(0xE1), BROKEN),
    "DISCONNECT that prolongs a session of 0 s": (V5_ONLY, lambda v: raw_packet(0xE0, b"\0\5\x11\0\0\0\1"), BROKEN),
}


def broken_packets():
    for name, (versions, build, reasons) in BROKEN_PACKETS.items():
        for version in versions:
            label = f"{name},{'5.0' if version == 5 else '3.1.1'}".replace(" ", "_")
            yield label, (version, build, reasons)


@test(*broken_packets())
def a_broken_packet_ends_the_connection(t, case):
    version, build, reasons = case
    link = Raw(t)
    link.open(token(), version)
    link.send(build(version))
    link.expect_close(*reasons)


INVALID_FILTERS = {
    "hash not last": (BOTH, b"a/#/b"),
    "plus inside a level": (BOTH, b"a+/b"),
    "hash inside a level": (BOTH, b"a#"),
    "empty": (BOTH, b""),
    "U+0000": (BOTH, b"a\0b"),
    "invalid UTF-8": (BOTH, b"a\xff"),
    "shared without a filter": (V5_ONLY, b"$share/group"),
    "shared with an empty filter": (V5_ONLY, b"$share/group/"),
    "shared without a name": (V5_ONLY, b"$share//topic"),
    "shared with a wildcard in the name": (V5_ONLY, b"$share/gr+oup/topic"),
}


@test(*[(name.replace(" ", "_"), case) for name, case in INVALID_FILTERS.items()])
def an_invalid_topic_filter_is_refused(t, case):
    versions, topic_filter = case
    for version in versions:
        link = Raw(t)
        link.open(token(), version)
        link.send(subscribe(1, topic_filter, 0, version))
        got = link.read()
        if got is not None and got.kind == SUBACK:  # refused alone, the connection goes on
            check(got.body[-1] in ((0x8F,) if version == 5 else (0x80,)), f"SUBACK code 0x{got.body[-1]:02x}")
            link.fence()
        elif got is not None:
            check(got.kind == DISCONNECT and got.reason in (*BROKEN, 0x8F), f"got {got}")
            check(link.read() is None, "still open after DISCONNECT")


@test(("3.1.1", 4), ("5.0", 5))
def an_oversized_length_is_refused_before_the_bytes_come(t, version):
    links = [Raw(t) for _ in range(20)]
    for link in links:
        link.open(token(), version)
        link.send(b"\x30\xff\xff\xff\x7f" + binary("a"))
    for link in links:
        link.expect_close(0x95)


@test()
def a_packet_above_the_announced_maximum_is_refused(t):
    link = Raw(t)
    announced = link.open(token()).property_bytes()
    at = announced.find(b"\x27")  # none of the properties before it holds this byte in the brokers tested here
    check(at >= 0, "CONNACK announces no maximum packet size")
    limit = struct.unpack_from(">I", announced, at + 1)[0]
    check(limit >= 65_536, f"maximum packet size {limit}")
    link.send(b"\x30" + varint(limit) + binary(fresh_topic()) + b"\0")
    link.expect_close(0x95)


# --- in place of, or inside, the CONNECT ----------------------------------------------------------------------------


def connect_with(protocol=b"MQTT", level=5, flags=2, props=b"\0", rest=binary("")):
    return raw_packet(0x10, binary(protocol) + bytes([level, flags]) + b"\0\x3c" + (props if level == 5 else b"") + rest)


WILL_ON_A_WILDCARD = binary("c") + b"\0" + binary("a/#") + binary("x")
NO_CONNECTS = {
    "PUBLISH before CONNECT": (publish("a", b"x"), BROKEN),
    "SUBSCRIBE before CONNECT": (subscribe(1, "#"), BROKEN),
    "PINGREQ before CONNECT": (raw_packet(0xC0), BROKEN),
    "CONNACK before CONNECT": (raw_packet(0x20, b"\0\0\0"), BROKEN),
    "a huge first packet": (b"\x30\xff\xff\xff\x7f", (*BROKEN, 0x95)),
    "a huge CONNECT": (b"\x10\xff\xff\xff\x7f" + connect(token())[2:], (*BROKEN, 0x95)),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n", BROKEN),
    "TLS": (bytes.fromhex("16030100c8010000c40303") + b"\x5a" * 200, BROKEN),
    "five-byte length": (b"\x10\xff\xff\xff\xff\x01", BROKEN),
    "CONNECT with flags": (b"\x11" + connect(token())[1:], BROKEN),
    "CONNECT cut short": (raw_packet(0x10, binary("MQTT") + b"\5"), BROKEN),
    "another protocol": (connect_with(protocol=b"MQTX"), (*BROKEN, 0x84)),
    "a protocol name in lower case": (connect_with(protocol=b"mqtt"), (*BROKEN, 0x84)),
    "level 0": (connect_with(level=0), (0x84, 0x01)),
    "level 6": (connect_with(level=6), (0x84, 0x01)),
    "the reserved flag": (connect_with(flags=3), BROKEN),
    "will QoS 3": (connect_with(flags=0x1E, rest=binary("c") + b"\0" + binary("a") + binary("x")), BROKEN),
    "will QoS without a will": (connect_with(flags=0x0A), BROKEN),
    "will retain without a will": (connect_with(flags=0x22), BROKEN),
    "will without a topic": (connect_with(flags=6, rest=binary("c")), BROKEN),
    "will on a wildcard": (connect_with(flags=6, rest=WILL_ON_A_WILDCARD), (*BROKEN, 0x90)),
    "password without user name, 3.1.1": (connect_with(level=4, flags=0x42, rest=binary("c") + binary("p")), BROKEN),
    "empty identifier to keep, 3.1.1": (connect_with(level=4, flags=0), (0x02,)),
    "empty identifier, 3.1": (connect_with(b"MQIsdp", 3), (0x02,)),
    "U+0000 in the identifier": (connect(b"a\0b"), (*BROKEN, 0x85)),
    "invalid UTF-8 in the identifier": (connect(b"a\xffb"), (*BROKEN, 0x85)),
    "bytes after the end": (connect_with(rest=binary("c") + b"more"), BROKEN),
    "receive maximum 0": (connect(token(), props=b"\x21\0\0"), BROKEN),
    "maximum packet size 0": (connect(token(), props=b"\x27\0\0\0\0"), BROKEN),
    "authentication data without method": (connect(token(), props=b"\x16" + binary("x")), BROKEN),
    "enhanced authentication": (connect(token(), props=b"\x15" + binary("SCRAM-SHA-1")), (0x8C,)),
    "request problem information 2": (connect(token(), props=b"\x17\2"), BROKEN),
    "a PUBLISH property": (connect(token(), props=b"\x23\0\1"), BROKEN),
}


@test(*[(name.replace(" ", "_"), case) for name, case in NO_CONNECTS.items()])
def what_is_no_connect_gets_no_session(t, case):
    data, reasons = case
    Raw(t).send(data).expect_close(*reasons)


@test(*[(each, each) for each in ("+", "#", "a/+/b", "$SYS", "%c", "../../etc/passwd", "x" * 60_000)])
def an_odd_client_identifier_harms_nobody(t, name):
    link, topic = Raw(t), fresh_topic()
    link.send(connect(name))
    connack = link.expect(CONNACK)
    if connack.reason == 0:
        link.send(subscribe(1, topic, 0)).expect(SUBACK)
        link.send(publish(topic, b"still MQTT"))
        equal(link.expect(PUBLISH).payload(), b"still MQTT", "payload")
    else:
        equal(connack.reason, 0x85, "CONNACK reason")


@test(("3.1", 3), ("3.1.1", 4), ("5.0", 5))
def packets_split_at_every_byte_are_whole_again(t, version):
    link, topic = Raw(t), fresh_topic()
    name = token()
    for data in (connect(name, version), subscribe(1, topic, 1, version), publish(topic, b"in pieces", 1, 7, version)):
        for at in range(len(data)):
            link.send(data[at : at + 1])
    equal(link.expect(CONNACK).reason, 0, "CONNACK reason")
    # The message may come before the SUBACK (3.8.4).
    got = {each.kind: each for each in (link.read(), link.read(), link.read())}
    equal(got[SUBACK].body[-1], 1, "SUBACK")
    equal(got[PUBACK].packet_id, 7, "PUBACK")
    equal(got[PUBLISH].payload(version), b"in pieces", "payload")


@test(("3.1.1", 4), ("5.0", 5))
def packets_sent_together_with_connect_are_served(t, version):
    link, topic = Raw(t), fresh_topic()
    burst = b"".join(publish(topic, b"%d" % n, 1, n, version) for n in range(1, 101))
    link.send(connect(token(), version) + subscribe(1000, topic, 0, version) + burst + raw_packet(0xC0))
    equal(link.expect(CONNACK).reason, 0, "CONNACK reason")
    got = [link.read() for _ in range(202)]
    equal([p.payload(version) for p in got if p.kind == PUBLISH], [b"%d" % n for n in range(1, 101)], "messages")
    equal([p.packet_id for p in got if p.kind == PUBACK], list(range(1, 101)), "PUBACKs")


# --- in order, but too much of it -----------------------------------------------------------------------------------


def outcome(link, kinds):
    """The first packet of one of the kinds, or None for a close; a DISCONNECT must be followed by one."""
    while (got := link.read()) is not None and got.kind not in kinds:
        if got.kind == DISCONNECT:
            check(link.read() is None, f"still open after {got}")
            return got
    return got


@test(("3.1.1", 4), ("5.0", 5))
def sixty_five_thousand_slashes_are_served_or_refused(t, version):
    deep = "/" * 65_000
    refused = (0x8F, 0x90, 0x95, 0x97, 0x81, 0x82, 0x80)
    subscriber, publisher = Raw(t), Raw(t)
    subscriber.open(token(), version)
    publisher.open(token(), version)
    taken = 0
    for number, topic_filter in enumerate((deep, "/#", deep[:-1] + "#", "+" + "/+" * 32_000), 1):
        subscriber.send(subscribe(number, topic_filter, 0, version))
        got = outcome(subscriber, (SUBACK,))
        if got is None or got.kind == DISCONNECT:
            check(got is None or got.reason in refused, f"got {got}")
            subscriber = Raw(t)
            subscriber.open(token(), version)
            taken = 0
        else:
            check(got.body[-1] == 0 or got.body[-1] in refused, f"SUBACK 0x{got.body[-1]:02x}")
            taken += got.body[-1] == 0
    publisher.send(publish(deep, b"x", 1, 1, version, flags=1))
    got = outcome(publisher, (PUBACK,))
    check(got is None or got.reason in (0, 0x10, *refused), f"got {got}")
    if got is not None and got.kind == PUBACK:  # taken, so take the retained message back
        publisher.send(publish(deep, b"", 1, 2, version, flags=1)).expect(PUBACK)


@test()
def thousands_of_user_properties_are_served_or_refused(t):
    topic, subscriber, publisher = fresh_topic(), Raw(t), Raw(t)
    many = b"".join(user_property(f"name{n}", f"value{n}") for n in range(5000))
    subscriber.open(token())
    subscriber.send(subscribe(1, topic, 0)).expect(SUBACK)
    publisher.open(token())
    publisher.send(publish(topic, b"x", 1, 1, props=many))
    got = outcome(publisher, (PUBACK,))
    if got is not None and got.kind == PUBACK and got.reason == 0:
        check(many in subscriber.expect(PUBLISH).body, "the user properties changed on the way")
    else:
        check(got is None or got.reason in (0x95, 0x97, 0x81, 0x82, 0x83, 0x10), f"got {got}")
    link = Raw(t).send(connect(token(), props=many))
    got = link.read()
    check(got is None or got.kind == CONNACK and got.reason in (0, 0x95, 0x97, 0x81, 0x82), f"CONNECT: {got}")


@test()
def many_filters_in_one_subscribe_are_answered_one_by_one(t):
    link, root = Raw(t), fresh_topic()
    link.open(token())
    filters = b"".join(binary(f"{root}/{n}") + b"\1" for n in range(50))
    link.send(raw_packet(0x82, b"\0\1\0" + filters))
    equal(link.expect(SUBACK).body, b"\0\1\0" + b"\1" * 50, "SUBACK")
    link.send(raw_packet(0xA2, b"\0\2\0" + b"".join(binary(f"{root}/{n}") for n in range(0, 100, 2))))
    equal(link.expect(UNSUBACK).body, b"\0\2\0" + b"\0" * 25 + b"\x11" * 25, "UNSUBACK")


@test(("3.1.1", 4), ("5.0", 5))
def a_qos_2_message_sent_again_before_its_release_is_one_message(t, version):
    topic, subscriber, sender = fresh_topic(), Raw(t), Raw(t)
    subscriber.open(token(), version)
    subscriber.send(subscribe(1, topic, 2, version)).expect(SUBACK)
    sender.open(token(), version)
    for flags in (0, 8):
        equal(sender.send(publish(topic, b"once", 2, 9, version, flags=flags)).expect(PUBREC).packet_id, 9, "PUBREC")
    for _ in range(2):
        equal(sender.send(ack(PUBREL, 9)).expect(PUBCOMP).packet_id, 9, "PUBCOMP")
    got = subscriber.expect(PUBLISH)
    equal(got.payload(version), b"once", "payload")
    subscriber.send(ack(PUBREC, got.packet_id)).expect(PUBREL)
    subscriber.send(ack(PUBCOMP, got.packet_id))
    equal(subscriber.fence(), [], "after the one message")


@test()
def a_qos_2_sender_that_never_releases_runs_into_the_receive_maximum(t):
    links = [Raw(t) for _ in range(10)]
    for link in links:
        topic = fresh_topic()
        announced = link.open(token()).property_bytes()
        at = announced.find(b"\x21")
        limit = struct.unpack_from(">H", announced, at + 1)[0] if at >= 0 else 65_535
        link.send(b"".join(publish(topic, b"x", 2, 1 + n) for n in range(min(limit + 1, 65_535))))
        for number in range(limit if limit < 65_535 else 0):
            equal(link.expect(PUBREC).packet_id, 1 + number, "PUBREC")
        if limit < 65_535:
            link.expect_close(0x93)


@test(("3.1.1", 4), ("5.0", 5))
def a_subscriber_that_never_acknowledges_holds_nobody_up(t, version):
    topic, stuck, good, publisher = fresh_topic(), Raw(t), Raw(t), Raw(t)
    for link in (stuck, good):
        link.open(token(), version)
        link.send(subscribe(1, topic, 1, version)).expect(SUBACK)
    publisher.open(token(), version)
    for number in range(1, 501):
        publisher.send(publish(topic, b"%d" % number, 1, number, version))
        got = good.expect(PUBLISH)
        equal(got.payload(version), b"%d" % number, "payload")
        good.send(ack(PUBACK, got.packet_id))
        publisher.expect(PUBACK)


@test()
def a_subscriber_that_never_reads_holds_nobody_up(t):
    topic, deaf, publisher = fresh_topic(), Raw(t), Raw(t)
    deaf.open(token(), version=4)
    deaf.send(subscribe(1, topic, 0, version=4)).expect(SUBACK)
    publisher.open(token(), version=4)
    before = bystander.rounds
    for _ in range(40):
        publisher.send(publish(topic, b"x" * 500_000, version=4))
    publisher.fence()
    bystander.undisturbed()
    check(bystander.rounds > before, "the bystander stood still")


@test()
def acknowledgments_of_nothing_are_answered_as_the_specification_says(t):
    link = Raw(t)
    link.open(token())
    got = link.send(ack(PUBREL, 77)).expect(PUBCOMP)
    equal((got.packet_id, got.reason), (77, 0x92), "PUBREL for an unknown packet identifier")
    link.send(ack(PUBACK, 77))
    got = outcome(link.send(raw_packet(0xC0)), (PINGRESP,))
    check(got is None or got.kind == PINGRESP or got.reason == PROTOCOL_ERROR, f"PUBACK of nothing: {got}")


@test(("3.1", 3), ("3.1.1", 4), ("5.0", 5))
def a_silent_client_is_dropped_after_one_and_a_half_keep_alives(t, version):
    link = Raw(t)
    link.open(token(), version, keep_alive=1)
    started = time.monotonic()
    link.expect_close(0x8D)
    waited = time.monotonic() - started
    check(1.0 <= waited <= 4.0, f"dropped after {waited:.2f} s; 1.5 s are asked for")


@test()
def random_bytes_harm_nobody(t):
    chance = random.Random(20_240)  # fixed, so that a failure can be looked at again
    for number in range(300):
        link = Raw(t)
        if number % 3:
            link.open(token(), (4, 5)[number % 2])
        link.send(chance.randbytes(chance.randrange(1, 400)))
        link.socket.close()


@test()
def connections_reset_in_the_middle_of_a_packet_harm_nobody(t):
    whole = connect(token("reset")) + subscribe(1, fresh_topic()) + publish(fresh_topic(), b"x" * 100, 2, 1)
    for at in range(1, len(whole), 2):
        link = Raw(t).send(whole[:at])
        # With linger 0 a close is a reset.
        link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.socket.close()


@test()
def clients_that_never_connected_are_closed_by_now(t):
    started = NOT_CLOSED_YET.pop("started")
    for name, link in NOT_CLOSED_YET.items():
        left = CONNECT_TIMEOUT_S - (time.monotonic() - started)
        try:
            got = link.read(max(left, 0.01))
        except Failure:
            raise Failure(f"{name}: still open after {CONNECT_TIMEOUT_S} s") from None
        check(got is None or got.kind in (CONNACK, DISCONNECT), f"{name}: {got}")


@test()
def the_bystander_never_waited_a_second(t):
    bystander.undisturbed()
    check(bystander.worst_s < 1.0, f"its worst round trip took {bystander.worst_s:.2f} s")
    print(f"bystander: {bystander.rounds} round trips, the worst {bystander.worst_s * 1000:.0f} ms", flush=True)


suite.main()
