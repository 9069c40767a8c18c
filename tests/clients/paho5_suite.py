"""paho-mqtt and what only MQTT 5.0 has: properties, reason codes, flow control, session and will timing."""

import time

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from lib.harness import Suite, check, equal, fresh_topic
from lib.peer import V5, Peer, message_is, pair, prop, props

suite = Suite("paho5")


def connected(t, *args, **options):
    peer = Peer(t, V5, *args, **options)
    peer.connect()
    return peer


@suite.test
def an_assigned_client_identifier_is_told_and_unique(t):
    names = set()
    for _ in range(8):
        peer = Peer(t, V5, "")
        _, properties = peer.connect()
        names.add(getattr(properties, "AssignedClientIdentifier", ""))
    check("" not in names and len(names) == 8, f"assigned identifiers {names}")


@suite.test
def receive_maximum_bounds_what_is_in_flight_to_a_client(t):
    topic, slow, publisher = fresh_topic(), Peer(t, V5, ReceiveMaximum=3, auto_ack=False), connected(t)
    slow.connect()
    slow.subscribe(topic, 1)
    for number in range(10):
        publisher.publish(topic, b"%d" % number, 1)
    first = [slow.receive() for _ in range(3)]
    slow.nothing()
    slow.client.ack(first[0].mid, 1)
    fourth = slow.receive()
    slow.nothing()
    seen = first + [fourth]
    for at in range(1, 10):
        slow.client.ack(seen[at].mid, 1)
        if len(seen) < 10:
            seen.append(slow.receive())
    equal([message.payload for message in seen], [b"%d" % number for number in range(10)], "order")


@suite.test
def receive_maximum_of_one_still_delivers_qos_2(t):
    topic, slow, publisher = fresh_topic(), Peer(t, V5, ReceiveMaximum=1), connected(t)
    slow.connect()
    slow.subscribe(topic, 2)
    handles = [publisher.send(topic, b"%d" % number, 2) for number in range(50)]
    for handle in handles:
        publisher.acknowledged(handle)
    equal(slow.payloads(50), [b"%d" % number for number in range(50)], "order")


@suite.test
def subscription_identifiers_come_with_the_message(t):
    root, peer, publisher = fresh_topic(), connected(t), connected(t)
    peer.subscribe(f"{root}/a", 1, identifier=7)
    peer.subscribe(f"{root}/+", 1, identifier=268_435_455)
    peer.subscribe(f"{root}/b", 1)
    publisher.publish(f"{root}/a", b"overlap", 1)
    publisher.publish(f"{root}/b", b"one of two", 1)
    publisher.publish(f"{root}/c", b"wildcard", 1)
    publisher.publish(f"{root}/end", b"end", 1)
    seen = {}
    while (message := peer.receive()).payload != b"end":
        seen.setdefault(message.payload, []).extend(prop(message, "SubscriptionIdentifier", []))
    # Overlapping subscriptions: one message with both identifiers, or one each (3.3.4).
    equal(sorted(seen[b"overlap"]), [7, 268_435_455], "identifiers of overlapping subscriptions")
    equal(seen[b"one of two"], [268_435_455], "identifiers where one subscription has none")
    equal(seen[b"wildcard"], [268_435_455], "identifiers of one subscription")


@suite.test
def a_request_finds_its_response(t):
    requests, responses = fresh_topic("requests"), fresh_topic("responses")
    requester, responder = connected(t), connected(t)
    responder.subscribe(requests, 1)
    requester.subscribe(responses, 1)
    for number in range(5):
        requester.publish(requests, b"%d" % number, 1, ResponseTopic=responses, CorrelationData=b"\x00\xff%d" % number)
    for _ in range(5):
        request = responder.receive()
        correlation = prop(request, "CorrelationData")
        responder.publish(prop(request, "ResponseTopic"), b"re " + request.payload, 1, CorrelationData=correlation)
    for number in range(5):
        response = requester.receive()
        message_is(response, responses, b"re %d" % number, 1)
        equal(prop(response, "CorrelationData"), b"\x00\xff%d" % number, "correlation data")


@suite.test
def no_local_keeps_a_clients_own_messages_away(t):
    topic, own, other = fresh_topic(), connected(t), connected(t)
    own.subscribe(topic, 1, noLocal=True)
    own.publish(topic, b"own", 1)
    other.publish(topic, b"other", 1)
    message_is(own.receive(), topic, b"other", 1)
    own.nothing()


@suite.test
def retain_handling_decides_on_the_replay(t):
    topic, publisher, peer = fresh_topic(), connected(t), connected(t)
    publisher.publish(topic, b"kept", 1, retain=True)

    peer.subscribe(topic, 1, retainHandling=2).nothing()  # new subscription
    peer.subscribe(topic, 1, retainHandling=1).nothing()  # it exists already
    message_is(peer.subscribe(topic, 1, retainHandling=0).receive(), topic, b"kept", 1, retain=True)
    peer.unsubscribe(topic)
    message_is(peer.subscribe(topic, 1, retainHandling=1).receive(), topic, b"kept", 1, retain=True)
    peer.subscribe(topic, 1, retainHandling=2).nothing()


@suite.test
def retain_as_published_keeps_the_flag(t):
    topic, publisher, keeps, clears = fresh_topic(), connected(t), connected(t), connected(t)
    keeps.subscribe(topic, 1, retainAsPublished=True)
    clears.subscribe(topic, 1, retainAsPublished=False)
    publisher.publish(topic, b"retained", 1, retain=True)
    publisher.publish(topic, b"plain", 1)
    message_is(keeps.receive(), topic, b"retained", 1, retain=True)
    message_is(keeps.receive(), topic, b"plain", 1)
    message_is(clears.receive(), topic, b"retained", 1)
    message_is(clears.receive(), topic, b"plain", 1)


def with_will(t, topic, payload, delay=None, expiry=0, client_id=None, **will_properties):
    if delay is not None:
        will_properties["WillDelayInterval"] = delay
    peer = Peer(t, V5, client_id, clean=False, expiry=expiry)
    peer.client.will_set(topic, payload, 1, properties=props("WILLMESSAGE", **will_properties))
    peer.connect()
    return peer


@suite.test
def a_will_waits_for_its_delay(t):
    watcher, _, topic = pair(t, V5)
    started = time.monotonic()
    with_will(t, topic, b"late", delay=1, expiry=60).kill()
    with_will(t, topic, b"at once", delay=0, expiry=60).kill()
    message_is(watcher.receive(), topic, b"at once", 1)
    message_is(watcher.receive(), topic, b"late", 1)
    waited = time.monotonic() - started
    check(0.9 <= waited <= 4, f"the will came after {waited:.2f} s, not after 1 s")


@suite.test
def a_will_is_sent_when_the_session_ends_before_its_delay(t):
    watcher, _, topic = pair(t, V5)
    started = time.monotonic()
    with_will(t, topic, b"session ended", delay=3600, expiry=1).kill()
    message_is(watcher.receive(), topic, b"session ended", 1)
    waited = time.monotonic() - started
    check(0.9 <= waited <= 4, f"the will came after {waited:.2f} s, not after 1 s")


@suite.test
def resuming_in_time_cancels_a_delayed_will(t):
    watcher, _, topic = pair(t, V5)
    back = with_will(t, topic, b"cancelled", delay=1, expiry=60)
    stays_away = with_will(t, topic, b"sent", delay=1, expiry=60)
    back.kill()
    # Without a will of its own, so that nothing but the old one could come.
    present, _ = Peer(t, V5, back.client_id, clean=False, expiry=60).connect()
    check(present, "session not present")
    stays_away.kill()
    message_is(watcher.receive(), topic, b"sent", 1)
    watcher.nothing()


@suite.test
def a_will_carries_its_properties(t):
    watcher, _, topic = pair(t, V5)
    pairs = [("b", "2"), ("a", "1"), ("b", "2")]
    with_will(
        t, topic, b"{}", ContentType="application/json", UserProperty=pairs, ResponseTopic="re", CorrelationData=b"\x01",
        PayloadFormatIndicator=1, MessageExpiryInterval=60,
    ).kill()
    got = watcher.receive()
    message_is(got, topic, b"{}", 1)
    equal(prop(got, "ContentType"), "application/json", "content type")
    equal(prop(got, "UserProperty"), pairs, "user properties")
    equal(prop(got, "ResponseTopic"), "re", "response topic")
    equal(prop(got, "CorrelationData"), b"\x01", "correlation data")
    equal(prop(got, "PayloadFormatIndicator"), 1, "payload format indicator")
    check(58 <= prop(got, "MessageExpiryInterval", 0) <= 60, "message expiry interval")
    equal(prop(got, "WillDelayInterval"), None, "will delay interval")


@suite.test
def disconnect_with_will_message_sends_it(t):
    watcher, _, topic = pair(t, V5)
    peer = with_will(t, topic, b"on purpose")
    peer.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
    message_is(watcher.receive(), topic, b"on purpose", 1)


@suite.test
def a_session_ends_when_its_expiry_interval_has_passed(t):
    topic, peer = fresh_topic(), connected(t, clean=False, expiry=1)
    peer.subscribe(topic, 1)
    ended = time.monotonic()
    peer.disconnect()
    watched = fresh_topic("ended")
    watcher = connected(t)
    watcher.subscribe(watched, 1)
    # Another session's will tells when one second is over, without a sleep here.
    with_will(t, watched, b"two seconds", delay=2, expiry=60).kill()
    message_is(watcher.receive(), watched, b"two seconds", 1)
    check(time.monotonic() - ended >= 1.0, "the clock runs too fast")
    present, _ = Peer(t, V5, peer.client_id, clean=False, expiry=1).connect()
    check(not present, "session present after its expiry")


@suite.test
def a_session_expiry_of_zero_ends_with_the_connection(t):
    peer = connected(t, clean=False, expiry=0)
    peer.disconnect()
    present, _ = Peer(t, V5, peer.client_id, clean=False, expiry=0).connect()
    check(not present, "session present")


@suite.test
def the_expiry_interval_can_be_changed_at_disconnect(t):
    kept, dropped = connected(t, clean=False, expiry=30), connected(t, clean=False, expiry=0xFFFF_FFFF)
    kept.disconnect(SessionExpiryInterval=300)
    dropped.disconnect(SessionExpiryInterval=0)
    present, _ = Peer(t, V5, kept.client_id, clean=False, expiry=30).connect()
    check(present, "the prolonged session is gone")
    present, _ = Peer(t, V5, dropped.client_id, clean=False, expiry=30).connect()
    check(not present, "the session that was to end is still there")


@suite.test
def what_is_larger_than_the_clients_maximum_packet_size_is_not_sent(t):
    topic, small, publisher = fresh_topic(), Peer(t, V5, MaximumPacketSize=200), connected(t)
    small.connect()
    small.subscribe(topic, 1)
    publisher.publish(topic, b"x" * 1000, 1)
    publisher.publish(topic, b"fits", 1)
    message_is(small.receive(), topic, b"fits", 1)
    small.nothing()


@suite.test
def acknowledgments_carry_reason_codes(t):
    topic, peer = fresh_topic(), connected(t)
    check(peer.publish(topic, b"", 1) in (0x00, 0x10), "PUBACK without subscribers")
    peer.unsubscribe(topic, expect=0x11)
    peer.subscribe(topic, 2)
    equal(peer.publish(topic, b"heard", 1), 0, "PUBACK with a subscriber")
    equal(peer.publish(topic, b"heard", 2), 0, "PUBCOMP with a subscriber")
    peer.unsubscribe(topic)


@suite.test
def user_properties_keep_order_and_duplicates(t):
    subscriber, publisher, topic = pair(t, V5)
    pairs = [("z", "1"), ("a", "2"), ("z", "1"), ("", ""), ("ключ", "значение"), ("z", "0")]
    publisher.publish(topic, b"x", 2, UserProperty=pairs)
    equal(prop(subscriber.receive(), "UserProperty"), pairs, "user properties")


@suite.test
def publish_properties_arrive_unchanged(t):
    subscriber, publisher, topic = pair(t, V5)
    publisher.publish(
        topic, "grüß".encode(), 1, PayloadFormatIndicator=1, ContentType="text/plain; charset=utf-8",
        ResponseTopic="a/b", CorrelationData=bytes(range(256)),
    )
    got = subscriber.receive()
    message_is(got, topic, "grüß".encode(), 1)
    equal(prop(got, "PayloadFormatIndicator"), 1, "payload format indicator")
    equal(prop(got, "ContentType"), "text/plain; charset=utf-8", "content type")
    equal(prop(got, "ResponseTopic"), "a/b", "response topic")
    equal(prop(got, "CorrelationData"), bytes(range(256)), "correlation data")
    equal(prop(got, "MessageExpiryInterval"), None, "message expiry interval")


@suite.test
def a_clients_topic_alias_stands_for_its_topic(t):
    root, subscriber, publisher = fresh_topic(), connected(t), Peer(t, V5)
    subscriber.subscribe(f"{root}/#", 1)
    _, properties = publisher.connect()
    allowed = getattr(properties, "TopicAliasMaximum", 0)
    check(allowed >= 2, f"the broker takes {allowed} topic aliases")
    publisher.publish(f"{root}/a", b"1", 1, TopicAlias=1)
    publisher.publish(f"{root}/b", b"2", 1, TopicAlias=allowed)
    publisher.publish("", b"3", 1, TopicAlias=1)
    publisher.publish("", b"4", 1, TopicAlias=allowed)
    publisher.publish(f"{root}/c", b"5", 1, TopicAlias=1)
    publisher.publish("", b"6", 0, TopicAlias=1)
    got = [subscriber.receive() for _ in range(6)]
    want = [("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", b"4"), ("c", b"5"), ("c", b"6")]
    equal([(m.topic, m.payload) for m in got], [(f"{root}/{level}", payload) for level, payload in want], "messages")
    check(all(prop(m, "TopicAlias") is None for m in got), "the publisher's alias reached the subscriber")


@suite.test
def the_remaining_message_expiry_is_forwarded(t):
    topic, sleeper, publisher = fresh_topic(), connected(t, clean=False, expiry=300), connected(t)
    sleeper.subscribe(topic, 1)
    sleeper.disconnect()
    publisher.publish(topic, b"expires soon", 1, MessageExpiryInterval=1)
    publisher.publish(topic, b"expires late", 1, MessageExpiryInterval=100)
    publisher.publish(topic, b"retained", 1, retain=True, MessageExpiryInterval=100)
    # Two seconds pass, told by a delayed will instead of a sleep.
    watched = fresh_topic("clock")
    publisher.subscribe(watched, 1)
    with_will(t, watched, b"tick", delay=2, expiry=60).kill()
    message_is(publisher.receive(), watched, b"tick", 1)

    again = Peer(t, V5, sleeper.client_id, clean=False, expiry=300)
    again.connect()
    for payload in (b"expires late", b"retained"):
        got = again.receive()
        equal(got.payload, payload, "payload")
        check(95 <= prop(got, "MessageExpiryInterval", 0) <= 98, f"remaining {prop(got, 'MessageExpiryInterval')} s, want 98")
    again.nothing()
    late = connected(t)
    late.subscribe(topic, 1)
    got = late.receive()
    check(95 <= prop(got, "MessageExpiryInterval", 0) <= 98, f"retained: {prop(got, 'MessageExpiryInterval')} s, want 98")


@suite.test
def a_shared_subscription_gives_each_message_to_one_member(t):
    topic, publisher = fresh_topic(), connected(t)
    members = [connected(t) for _ in range(3)]
    ordinary = connected(t)
    ordinary.subscribe(topic, 1)
    for member in members:
        member.subscribe(f"$share/group/{topic}", 1)
    handles = [publisher.send(topic, b"%d" % number, 1) for number in range(300)]
    for handle in handles:
        publisher.acknowledged(handle)
    for member in members:
        member.fence()
    shares = [sorted(member.messages.queue, key=lambda m: int(m.payload)) for member in members]
    everything = sorted(int(message.payload) for share in shares for message in share)
    equal(everything, list(range(300)), "all members together")
    check(all(shares), f"shares {[len(share) for share in shares]}")
    equal(ordinary.payloads(300), [b"%d" % number for number in range(300)], "the ordinary subscriber")


@suite.test
def two_groups_get_each_message_once_each(t):
    topic, publisher, first, second = fresh_topic(), connected(t), connected(t), connected(t)
    first.subscribe(f"$share/one/{topic}", 1)
    second.subscribe(f"$share/two/{topic}", 1)
    for number in range(20):
        publisher.publish(topic, b"%d" % number, 1)
    for peer in (first, second):
        equal(peer.payloads(20), [b"%d" % number for number in range(20)], "group")
        peer.nothing()


@suite.test
def what_a_leaving_member_did_not_acknowledge_goes_to_another(t):
    topic, publisher = fresh_topic(), connected(t)
    leaver, stayer = connected(t, auto_ack=False), connected(t)
    leaver.subscribe(f"$share/group/{topic}", 1)
    stayer.subscribe(f"$share/group/{topic}", 1)
    for number in range(20):
        publisher.publish(topic, b"%d" % number, 1)
    leaver.fence()
    taken = [message.payload for message in leaver.messages.queue]
    check(taken, "the member that leaves had no message to leave")
    leaver.kill()
    got = {stayer.receive().payload for _ in range(20)}
    equal(got, {b"%d" % number for number in range(20)}, "the remaining member")


suite.main()
