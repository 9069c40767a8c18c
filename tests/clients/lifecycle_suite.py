"""The broker as a process: starting, stopping, and what it leaves behind. Each test starts a broker of its own."""

import os
import signal
import time

from lib.harness import Broker, Suite, await_until, check, equal, fresh_topic, token
from lib.peer import V5, V31, V311, Peer
from lib.wire import PINGRESP, SUBACK, Raw, packet, publish, subscribe

suite = Suite("lifecycle")
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def own_broker(t, port=None):
    log = f"/tmp/e2e-lifecycle-{os.getpid()}-{token()}.log"
    broker = Broker(os.environ["E2E_BROKER"], os.environ["E2E_SHARDS"], log, port)
    t.adopt(broker, lambda: os.unlink(log))
    t.adopt(broker, broker.kill)
    return broker


@suite.each(("SIGTERM", signal.SIGTERM), ("SIGINT", signal.SIGINT))
def stopping_takes_leave_of_every_client(t, number):
    broker = own_broker(t).ready()
    peers = [Peer(t, version, port=broker.port) for version in (V31, V311, V5, V5, V5, V5) for _ in range(5)]
    for peer in peers:
        peer.connect()
    broker.process.send_signal(number)
    for peer in peers:
        reason = peer.closed()
        if peer.version == V5:
            equal(reason.value, 0x8B, "DISCONNECT reason")
    equal(broker.wait(), 0, "exit code")


@suite.test
def what_was_acknowledged_is_flushed_before_the_end(t):
    broker, topic = own_broker(t).ready(), fresh_topic()
    subscriber, publisher = Peer(t, V5, port=broker.port), Peer(t, V5, port=broker.port)
    subscriber.connect()
    subscriber.subscribe(topic, 0)
    publisher.connect()
    handles = [publisher.send(topic, b"%d" % n, 1) for n in range(200)]
    for handle in handles:
        publisher.acknowledged(handle)
    broker.terminate()
    equal(subscriber.payloads(200), [b"%d" % n for n in range(200)], "messages")
    equal(broker.wait(), 0, "exit code")


def holds_back_output(t, broker):
    """A client that is sent more than its socket takes and never reads it."""
    topic, deaf, publisher = fresh_topic(), Raw(t, broker.port), Raw(t, broker.port)
    deaf.open(token(), version=4)
    deaf.send(subscribe(1, topic, 0, version=4)).expect(SUBACK)
    publisher.open(token(), version=4)
    for _ in range(30):
        publisher.send(publish(topic, b"x" * 500_000, version=4))
    publisher.send(packet(0xC0)).expect(PINGRESP)


@suite.test
def a_client_that_never_reads_cannot_hold_up_the_stop(t):
    broker = own_broker(t).ready()
    holds_back_output(t, broker)
    broker.terminate()
    equal(broker.wait(), 0, "exit code")


@suite.test
def clients_that_leave_their_sockets_open_do_not_delay_the_stop(t):
    broker = own_broker(t).ready()
    links = [Raw(t, broker.port) for _ in range(30)]
    for number, link in enumerate(links):
        link.open(token(), (3, 4, 5)[number % 3])
    started = time.monotonic()
    equal(broker.stop(), 0, "exit code")
    took = time.monotonic() - started
    check(took < 2, f"the stop took {took:.1f} s although every client could be told at once")


@suite.test
def a_second_signal_ends_it_at_once(t):
    broker = own_broker(t).ready()
    witness = Peer(t, V5, port=broker.port)
    witness.connect()
    holds_back_output(t, broker)
    broker.terminate()
    witness.closed()  # the first signal was seen: two that are pending together would count as one
    started = time.monotonic()
    if broker.alive():
        broker.process.send_signal(signal.SIGTERM)
    broker.wait()
    took = time.monotonic() - started
    check(took < 2, f"it ran for {took:.1f} s after the second signal")


@suite.test
def a_port_that_is_taken_is_a_plain_message_and_a_failure(t):
    first = own_broker(t).ready()
    second = own_broker(t, first.port)
    check(second.wait() != 0, "a second broker on the same port ended with success")
    check(second.log_tail().strip(), "it said nothing")
    Raw(t, first.port).open(token())


@suite.test
def the_port_is_free_again_at_once(t):
    first = own_broker(t).ready()
    for _ in range(20):
        Raw(t, first.port).open(token())
    equal(first.stop(), 0, "exit code")
    second = own_broker(t, first.port).ready()
    Raw(t, second.port).open(token())


@suite.test
def an_idle_broker_uses_next_to_no_processor(t):
    broker = own_broker(t).ready()
    for _ in range(100):
        link = Raw(t, broker.port)
        link.open(token(), keep_alive=0)
        link.send(subscribe(1, fresh_topic(), 1)).expect(SUBACK)
    window_s = 3.0  # a measurement, not a wait for something
    before = cpu_s(broker.process.pid)
    time.sleep(window_s)
    share = (cpu_s(broker.process.pid) - before) / window_s
    check(share < 0.05, f"{share:.1%} of a processor with 100 idle clients")


def cpu_s(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


@suite.test
def connections_that_ended_leave_no_descriptors(t):
    broker = own_broker(t).ready()
    Raw(t, broker.port).open(token())

    def descriptors():
        return len(os.listdir(f"/proc/{broker.process.pid}/fd"))

    level = descriptors()
    for _ in range(3):
        links = [Raw(t, broker.port) for _ in range(200)]
        for number, link in enumerate(links):
            if number % 4:
                link.open(token(), (3, 4, 5)[number % 3])
        for link in links:
            link.socket.close()
    await_until(lambda: descriptors() <= level, f"open descriptors to return to {level}")


suite.main()
