"""Debian's mosquitto_pub and mosquitto_sub, used as people use them in a shell."""

import pathlib
import tempfile

from lib.harness import Failure, Suite, await_until, check, equal, fresh_topic, token
from lib.mosquitto import V5, V311, VERSIONS, Sub, pub

suite = Suite("mosquitto")


@suite.each(*[(f"{label},QoS{qos}", (version, qos)) for label, version in VERSIONS for qos in range(3)])
def a_message_arrives_as_it_was_sent(t, case):
    version, qos = case
    topic = fresh_topic("a", "b")
    sub = Sub(t, version, "-t", topic, "-q", qos, form="%t %q %r %p")
    equal(sub.granted, [qos], "granted QoS")
    pub(t, version, "-t", topic, "-q", qos, "-m", "hello wörld")
    sub.only(f"{topic} {qos} 0 hello wörld")


@suite.each(*VERSIONS)
def a_retained_message_is_replayed_and_cleared(t, version):
    root = fresh_topic()
    pub(t, version, "-t", f"{root}/state", "-q", 1, "-r", "-m", "on")
    pub(t, version, "-t", f"{root}/other", "-q", 1, "-r", "-m", "kept")
    got = Sub(t, version, "-t", f"{root}/#", "-q", 1, form="%t %r %p", count=2).ended()
    equal(sorted(got), [f"{root}/other 1 kept".encode(), f"{root}/state 1 on".encode()], "retained")
    pub(t, version, "-t", f"{root}/state", "-q", 1, "-r", "-n")
    sub = Sub(t, version, "-t", f"{root}/#", "-q", 1, form="%t %r %p")
    sub.only(f"{root}/other 1 kept")
    pub(t, version, "-t", f"{root}/end", "-q", 1, "-m", "end")
    sub.nothing_but(f"{root}/end 0 end")


@suite.each(*VERSIONS)
def a_killed_subscribers_will_is_sent(t, version):
    topic = fresh_topic("will")
    watcher = Sub(t, version, "-t", topic, "-q", 1, form="%q %r %p")
    will = ("--will-topic", topic, "--will-qos", 1)
    Sub(t, version, "-t", fresh_topic(), *will, "--will-payload", "left").leave()
    if version == V5:  # mosquitto_sub takes its leave with reason 0x04, "disconnect with will message"
        watcher.only("1 0 left")
    Sub(t, version, "-t", fresh_topic(), *will, "--will-payload", "killed", "--will-retain").kill()
    watcher.only("1 0 killed")
    equal(Sub(t, version, "-t", topic, "-q", 1, form="%r %p", count=1).ended(), [b"1 killed"], "retained will")


@suite.each(*VERSIONS)
def sys_topics_have_the_names_mosquittos_users_know(t, version):
    names = (
        "version", "uptime", "clients/connected", "clients/total", "messages/received", "messages/sent",
        "bytes/received", "bytes/sent", "publish/messages/received", "publish/messages/sent", "subscriptions/count",
        "retained messages/count",
    )
    sub, seen = Sub(t, version, "-t", "$SYS/broker/#", form="%t\t%p"), {}
    connected = "$SYS/broker/clients/connected"
    # The value replayed first may be older than this subscriber; a later one counts it.
    while missing := [name for name in names if f"$SYS/broker/{name}" not in seen] or seen[connected] == "0":
        try:
            topic, _, value = sub.line(timeout=25).decode().partition("\t")
        except Failure:
            raise Failure(f"missing: {missing}; connected: {seen.get(connected)}") from None
        seen[topic] = value
    for name in names[2:]:
        check(seen[f"$SYS/broker/{name}"].isdigit(), f"$SYS/broker/{name} is {seen[f'$SYS/broker/{name}']!r}")


@suite.each(*[(f"{label},QoS{qos}", (version, qos)) for label, version in VERSIONS for qos in (0, 2)])
def a_payload_just_below_a_mebibyte_arrives_whole(t, case):
    version, qos = case
    topic = fresh_topic("large")
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        payload = bytes((n * 7 + n // 251) % 26 + 97 for n in range(1024 * 1024 - 256))
        file.write(payload)
        file.flush()
        sub = Sub(t, version, "-t", topic, "-q", qos, form="%l %p")
        pub(t, version, "-t", topic, "-q", qos, "-f", file.name)
        check(sub.line() == b"%d " % len(payload) + payload, "the payload changed on the way")


@suite.each(*VERSIONS)
def an_empty_payload_is_a_message(t, version):
    topic = fresh_topic("empty")
    sub = Sub(t, version, "-t", topic, "-q", 1, form="%l[%p]")
    pub(t, version, "-t", topic, "-q", 1, "-n")
    sub.only("0[]")


@suite.each(*VERSIONS)
def file_line_and_stdin_modes_send_what_they_read(t, version):
    topic, text = fresh_topic("modes"), b"first line\nsecond line\n\xc3\xa4 third"
    sub = Sub(t, version, "-t", topic, "-q", 2, form="%x")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "text")
        path.write_bytes(text)
        pub(t, version, "-t", topic, "-q", 2, "-f", path)
    sub.only(text.hex())
    pub(t, version, "-t", topic, "-q", 2, "-s", stdin=text)
    sub.only(text.hex())
    pub(t, version, "-t", topic, "-q", 2, "-l", stdin=text + b"\n")
    sub.only(*[line.hex() for line in text.split(b"\n")])


@suite.each(*VERSIONS)
def a_persistent_session_keeps_messages_while_its_client_is_away(t, version):
    topic, name = fresh_topic("away"), token()
    session = ("-i", name, "-t", topic, "-q", 2, *(("-c",) if version != V5 else ("-c", "-x", "300")))
    Sub(t, version, *session).leave()
    pub(t, version, "-t", topic, "-q", 0, "-m", "dropped or kept, as the broker likes")
    lines = [f"message {number}" for number in range(50)]
    pub(t, version, "-t", topic, "-q", 1, "-l", stdin="\n".join(lines).encode() + b"\n")
    sub = Sub(t, version, *session)
    got = sub.take(50)
    if got[0].startswith(b"dropped or kept"):
        got = got[1:] + sub.take(1)
    equal(got, [line.encode() for line in lines], "offline messages")


@suite.test
def a_session_expires_when_its_x_seconds_are_over(t):
    topic, name = fresh_topic("expiry"), token()
    Sub(t, V5, "-i", name, "-c", "-x", 1, "-t", topic, "-q", 1).leave()
    pub(t, V5, "-t", topic, "-q", 1, "-m", "for a session that will be gone")
    # Two seconds pass: a delayed will is the clock.
    clock = fresh_topic("clock")
    watcher = Sub(t, V5, "-t", clock, "-q", 1)
    will = ("--will-topic", clock, "--will-payload", "tick", "--will-qos", 1)
    Sub(t, V5, "-t", fresh_topic(), "-c", "-i", token(), "-x", 60, *will, "-D", "will", "will-delay-interval", 2).kill()
    watcher.only("tick")
    sub = Sub(t, V5, "-i", name, "-c", "-x", 1, "-t", topic, "-q", 1)
    pub(t, V5, "-t", topic, "-q", 1, "-m", "fresh")
    sub.nothing_but("fresh")


@suite.test
def three_members_share_a_subscription(t):
    topic = fresh_topic("share")
    members = [Sub(t, V5, "-i", token(), "-t", f"$share/workers/{topic}", "-q", 1) for _ in range(3)]
    lines = [b"job %d" % number for number in range(300)]
    pub(t, V5, "-t", topic, "-q", 1, "-l", stdin=b"\n".join(lines) + b"\n")
    await_until(lambda: sum(member.lines.qsize() for member in members) >= 300, "300 messages at three members")
    shares = [list(member.lines.queue) for member in members]
    equal(sorted(sum(shares, [])), sorted(lines), "all members together")
    check(all(shares), f"shares {[len(own) for own in shares]}")


@suite.test
def v5_publish_properties_reach_the_subscriber(t):
    topic = fresh_topic("properties")
    sub = Sub(t, V5, "-t", topic, "-q", 1, form="%C|%D|%E|%F|%P|%R|%p")
    pub(
        t, V5, "-t", topic, "-q", 1, "-m", "{}", "-D", "publish", "content-type", "application/json",
        "-D", "publish", "correlation-data", "c-17", "-D", "publish", "message-expiry-interval", 3600,
        "-D", "publish", "payload-format-indicator", 1, "-D", "publish", "response-topic", "re/ply",
        "-D", "publish", "user-property", "zeta", "1", "-D", "publish", "user-property", "alpha", "2",
    )  # fmt: skip
    content, correlation, expiry, form, user, response, payload = sub.line().decode().split("|")
    equal((content, correlation, form, response, payload), ("application/json", "c-17", "1", "re/ply", "{}"), "properties")
    check(3590 <= int(expiry) <= 3600, f"message expiry interval {expiry}")
    equal(user.split(), ["zeta:1", "alpha:2"], "user properties")


@suite.test
def v5_topic_alias_from_a_publisher(t):
    topic = fresh_topic("alias")
    sub = Sub(t, V5, "-t", topic, "-q", 1, form="%t %p")
    # mosquitto_pub puts the alias on each message of -l and leaves the topic out from the second on.
    pub(t, V5, "-t", topic, "-q", 1, "-l", "-D", "publish", "topic-alias", 3, stdin=b"one\ntwo\nthree\n")
    sub.only(*[f"{topic} {word}" for word in ("one", "two", "three")])


@suite.each(*[(f"{label},QoS{qos}", (version, qos)) for label, version in VERSIONS for qos in (1, 2)])
def a_burst_of_10_000_messages_arrives_whole_and_in_order(t, case):
    version, qos = case
    topic = fresh_topic("burst")
    sub = Sub(t, version, "-t", topic, "-q", qos, count=10_000)
    lines = [b"%d" % number for number in range(10_000)]
    pub(t, version, "-t", topic, "-q", qos, "-l", stdin=b"\n".join(lines) + b"\n")
    got = sub.take(10_000)
    equal(sub.ended(), [], "messages after the last")
    check(got == lines, "out of order: " + str(next((g, w) for g, w in zip(got, lines) if g != w)) if got != lines else "")


@suite.each(*VERSIONS)
def unsubscribing_first_leaves_the_other_subscription(t, version):
    root, name = fresh_topic(), token()
    session = ("-i", name, "-q", 1, *(("-c",) if version != V5 else ("-c", "-x", "300")))
    Sub(t, version, *session, "-t", f"{root}/out", "-t", f"{root}/in").leave()
    sub = Sub(t, version, *session, "-U", f"{root}/out", "-t", f"{root}/in")
    # The UNSUBACK is not shown; a message to itself tells that both requests were handled.
    pub(t, version, "-t", f"{root}/in", "-q", 1, "-m", "first")
    sub.only("first")
    pub(t, version, "-t", f"{root}/out", "-q", 1, "-m", "unwanted")
    pub(t, version, "-t", f"{root}/in", "-q", 1, "-m", "second")
    sub.nothing_but("second")


@suite.each(*VERSIONS)
def wildcards_and_filter_out(t, version):
    root = fresh_topic()
    plus = Sub(t, version, "-t", f"{root}/+/temperature", "-q", 1, form="%t")
    hash_ = Sub(t, version, "-t", f"{root}/#", "-T", f"{root}/quiet/#", "-q", 1, form="%t")
    several = Sub(t, version, "-t", f"{root}/kitchen/+", "-t", f"{root}/cellar/#", "-q", 1, form="%t")
    equal(several.granted, [1, 1], "granted QoS")
    topics = ("kitchen/temperature", "kitchen/light", "quiet/temperature", "cellar", "cellar/a/b/temperature")
    for topic in topics:
        pub(t, version, "-t", f"{root}/{topic}", "-q", 1, "-m", "x")
    plus.only(*[f"{root}/{each}" for each in ("kitchen/temperature", "quiet/temperature")])
    hash_.only(*[f"{root}/{each}" for each in topics if not each.startswith("quiet")])
    several.only(*[f"{root}/{each}" for each in topics if each.startswith(("kitchen", "cellar"))])


@suite.each(*VERSIONS)
def a_second_sub_with_the_same_identifier_ends_the_first(t, version):
    name, topic = token(), fresh_topic("same")
    first = Sub(t, version, "-i", name, "-t", topic, "-q", 1)
    # mosquitto_sub reconnects by itself; ended here so that the two do not throw each other out for ever.
    second = Sub(t, version, "-i", name, "-t", topic, "-q", 1)
    first.kill()
    second.kill()
    third = Sub(t, version, "-i", name, "-t", topic, "-q", 1)
    pub(t, version, "-t", topic, "-q", 1, "-m", "to the last")
    third.only("to the last")


@suite.test
def an_expired_message_is_not_delivered(t):
    topic, name, clock = fresh_topic("expired"), token(), fresh_topic("clock")
    session = ("-i", name, "-c", "-x", 300, "-t", topic, "-q", 1)
    Sub(t, V5, *session).leave()
    pub(t, V5, "-t", topic, "-q", 1, "-m", "stale", "-D", "publish", "message-expiry-interval", 1)
    watcher = Sub(t, V5, "-t", clock, "-q", 1)
    will = ("--will-topic", clock, "--will-payload", "tick", "--will-qos", 1)
    Sub(t, V5, "-t", fresh_topic(), "-c", "-i", token(), "-x", 60, *will, "-D", "will", "will-delay-interval", 2).kill()
    watcher.only("tick")
    sub = Sub(t, V5, *session)
    pub(t, V5, "-t", topic, "-q", 1, "-m", "fresh")
    sub.nothing_but("fresh")


@suite.test
def the_three_versions_talk_to_each_other(t):
    topic = fresh_topic("mixed")
    subs = [Sub(t, version, "-t", topic, "-q", 2, form="%q %p") for _, version in VERSIONS]
    for label, version in VERSIONS:
        pub(t, version, "-t", topic, "-q", 2, "-m", f"from {label}")
    for sub in subs:
        sub.only("2 from 3.1", "2 from 3.1.1", "2 from 5.0")


@suite.test
def a_message_without_subscribers_is_told_in_5_0_and_no_error(t):
    pub(t, V5, "-t", fresh_topic(), "-q", 1, "-m", "x")
    pub(t, V311, "-t", fresh_topic(), "-q", 2, "-m", "x")


suite.main()
