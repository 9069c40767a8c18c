"""A paho-mqtt client whose callbacks are queues, so that a test reads like a conversation."""

import queue
import socket
import threading

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from lib.harness import DEADLINE_S, HOST, Failure, check, equal, fresh_topic, take, token

V31, V311, V5 = paho.MQTTv31, paho.MQTTv311, paho.MQTTv5
QUIET_S = 0.15
VERSIONS = (("3.1", V31), ("3.1.1", V311), ("5.0", V5))


def props(kind, **values):
    """Properties of a packet; a user property list is given as a list of pairs."""
    out = Properties(getattr(PacketTypes, kind))
    for name, value in values.items():
        setattr(out, name, value)
    return out


def prop(message, name, default=None):
    return getattr(message.properties, name, default)


class Peer:
    """One client identifier and its connection."""

    def __init__(
        self, t, version=V5, client_id=None, clean=True, port=None, expiry=None, auto_ack=True, transport="tcp",
        **connect_properties,
    ):
        self.version, self.port, self.clean = version, port or t.port, clean
        self.host = HOST
        self.client_id = token() if client_id is None else client_id
        if expiry is not None:
            connect_properties["SessionExpiryInterval"] = expiry
        self.connect_properties = props("CONNECT", **connect_properties) if version == V5 else None
        self.messages, self.connacks, self.closes = queue.Queue(), queue.Queue(), queue.Queue()
        self.answers, self.lock, self.connected = {}, threading.Lock(), threading.Event()
        flags = {} if version == V5 else {"clean_session": clean}
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, self.client_id, protocol=version, manual_ack=not auto_ack,
            reconnect_on_failure=False, transport=transport, **flags,
        )
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        for callback in ("on_publish", "on_subscribe", "on_unsubscribe"):
            setattr(self.client, callback, lambda _c, _u, mid, codes, _p: self._answer(mid).put(codes))
        t.adopt(self, self.kill)

    def _on_connect(self, _client, _userdata, flags, reason, properties):
        self.connected.set()
        self.connacks.put((flags, reason, properties))

    def _on_disconnect(self, _client, _userdata, _flags, reason, _properties):
        self.connected.clear()
        self.closes.put(reason)

    def _answer(self, mid):
        with self.lock:
            return self.answers.setdefault(mid, queue.Queue())

    def connect(self, clean=None, keep_alive=60, expect=0):
        """Connects and returns the CONNACK as (session present, properties)."""
        self.dial(clean, keep_alive)
        return self.connack(expect)

    def dial(self, clean=None, keep_alive=60):
        """Connects and sends CONNECT."""
        options = {"clean_start": self.clean if clean is None else clean, "properties": self.connect_properties}
        self.client.connect(self.host, self.port, keep_alive, **(options if self.version == V5 else {}))
        self.client.loop_start()

    def connack(self, expect=0):
        flags, reason, properties = take(self.connacks, "CONNACK")
        equal(reason.value, expect, f"CONNACK reason ({reason})")
        return flags.session_present, properties

    def reconnects_by_itself(self, delay_s=0.05):
        """From now on a broken connection is opened again by paho."""
        self.client._reconnect_on_failure = True
        self.client.reconnect_delay_set(delay_s, delay_s)
        return self

    def subscribe(self, topic_filter, qos=0, identifier=None, expect=None, **options):
        """Subscribes, waits for SUBACK and checks the granted QoS (or the reason code `expect`)."""
        if self.version == V5:
            properties = props("SUBSCRIBE", SubscriptionIdentifier=identifier) if identifier else None
            _, mid = self.client.subscribe(topic_filter, options=SubscribeOptions(qos, **options), properties=properties)
        else:
            _, mid = self.client.subscribe(topic_filter, qos)
        codes = take(self._answer(mid), f"SUBACK for {topic_filter}")
        equal([code.value for code in codes], [qos if expect is None else expect], "SUBACK")
        return self

    def unsubscribe(self, topic_filter, expect=0):
        _, mid = self.client.unsubscribe(topic_filter)
        codes = take(self._answer(mid), f"UNSUBACK for {topic_filter}")
        if self.version == V5:
            equal([code.value for code in codes], [expect], "UNSUBACK")
        return self

    def fence(self):
        """Returns when the broker has answered a request sent now: what it sent before has been read."""
        return self.subscribe(fresh_topic("fence"))

    def send(self, topic, payload=b"", qos=0, retain=False, **properties):
        """Publishes without waiting; the returned handle is for `acknowledged`."""
        extra = {"properties": props("PUBLISH", **properties)} if properties else {}
        return self.client.publish(topic, payload, qos, retain, **extra)

    def acknowledged(self, handle):
        """Waits for the PUBACK or PUBCOMP of a handle (QoS 0: until written); returns its reason code."""
        return take(self._answer(handle.mid), f"acknowledgment of {handle.mid}", 2 * DEADLINE_S).value

    def publish(self, topic, payload=b"", qos=0, retain=False, **properties):
        """Publishes and waits for the acknowledgment; returns its reason code."""
        return self.acknowledged(self.send(topic, payload, qos, retain, **properties))

    def receive(self, timeout=DEADLINE_S):
        return take(self.messages, "a message", timeout)

    def payloads(self, count):
        return [self.receive().payload for _ in range(count)]

    def nothing(self):
        """Fails if a message comes although none should: until a fence, and for a moment longer.

        The moment is for what the broker may do in its own time: a retained replay, a QoS 2 exchange.
        """
        self.fence()
        try:
            message = self.messages.get(timeout=QUIET_S)
        except queue.Empty:
            return self
        raise Failure(f"unexpected message on {message.topic}: {message.payload[:60]!r}")

    def closed(self, timeout=DEADLINE_S):
        """Waits until the connection is gone; returns the reason."""
        return take(self.closes, "the connection to end", timeout)

    def disconnect(self, reason=None, **properties):
        """Sends DISCONNECT and waits until the socket is closed."""
        if self.version == V5:
            self.client.disconnect(reason, props("DISCONNECT", **properties) if properties else None)
        else:
            self.client.disconnect()
        self.closed()
        self.client.loop_stop()

    def kill(self):
        """Ends the connection without a word, as a lost network does."""
        self.client._reconnect_on_failure = False
        sock = self.client.socket()
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.client.loop_stop()


def pair(t, version, qos=2, topic=None, **options):
    """A subscriber of a fresh topic and a publisher for it: (subscriber, publisher, topic)."""
    topic = topic or fresh_topic("pair")
    subscriber, publisher = Peer(t, version, **options), Peer(t, version)
    subscriber.connect()
    subscriber.subscribe(topic, qos)
    publisher.connect()
    return subscriber, publisher, topic


def message_is(message, topic, payload, qos=None, retain=False):
    """Checks what a received message says about itself."""
    equal(message.topic, topic, "topic")
    equal(message.payload, payload, "payload")
    equal(bool(message.retain), retain, "retain")
    if qos is not None:
        equal(message.qos, qos, "QoS")
    check(message.dup is False or message.qos > 0, "DUP at QoS 0")
