"""Who is let in, and by which door: paho-mqtt and mosquitto's clients over TLS, WebSocket, Unix sockets and behind a proxy.

The broker is that of lib/secure.py: clients show a certificate of its authority, or a name and a password.
"""

import os
import pathlib
import socket
import ssl
import struct
import subprocess
import time

from lib.harness import DEADLINE_S, HOST, Suite, await_until, check, equal, fresh_topic, token
from lib.peer import V5, V311, Peer, message_is
from lib.secure import PROXIED, USERS, file, port
from lib.wire import CONNACK, Raw, binary, connect, publish

suite = Suite("secure")
VERSIONS = (("3.1.1", V311), ("5.0", V5))
BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED = 0x86, 0x87  # paho tells return codes of 3.1.1 by these too
PASSWORD_DOORS = ("tls", "ws", "wss", "unix")
WITH_PASSWORD = [(f"{door},{label}", (door, version)) for door in PASSWORD_DOORS for label, version in VERSIONS]


def peer(t, door, version=V5, user="ann", password=None, ca="ca.pem", certificate=None):
    """A client for a listener, not connected yet."""
    transport = {"ws": "websockets", "wss": "websockets", "unix": "unix"}.get(door, "tcp")
    out = Peer(t, version, port=None if door == "unix" else port(door), transport=transport)
    out.host = file("mqtt.sock") if door == "unix" else "localhost"
    if door in ("tls", "mtls", "wss"):
        shown = {"certfile": file(f"{certificate}.pem"), "keyfile": file(f"{certificate}.key")} if certificate else {}
        out.client.tls_set(ca_certs=file(ca), **shown)
    if transport == "websockets":
        out.client.ws_set_options(path="/mqtt")
    if user is not None:
        out.client.username_pw_set(user, USERS.get(user) if password is None else password)
    return out


@suite.each(*WITH_PASSWORD)
def a_user_with_a_password_publishes_and_subscribes(t, case):
    door, version = case
    client, topic = peer(t, door, version), "of/ann/" + fresh_topic()
    client.connect()
    client.subscribe(topic, 2)
    for qos, payload in enumerate((b"nought", bytes(range(256)) * 600, b"two")):  # the second is longer than a frame and a record
        client.publish(topic, payload, qos)
        message_is(client.receive(), topic, payload, qos)


@suite.each(*VERSIONS)
def every_door_leads_to_the_same_broker(t, version):
    topic = "all/" + fresh_topic()
    clients = [peer(t, door, version) for door in PASSWORD_DOORS]
    clients.append(peer(t, "mtls", version, user=None, certificate="lamp"))
    for client in clients:
        client.connect()
        client.subscribe(topic, 1)
    for number, client in enumerate(clients):
        client.publish(topic, b"%d" % number, 1)
    for client in clients:
        equal(sorted(client.payloads(len(clients))), [b"%d" % number for number in range(len(clients))], "messages")


@suite.each(*WITH_PASSWORD)
def a_wrong_password_and_an_unknown_user_are_refused_alike(t, case):
    door, version = case
    for user, password in (("ann", "green te"), ("ann", ""), ("nobody", "green tea"), (None, None)):
        client = peer(t, door, version, user, password)
        client.connect(expect=BAD_USER_NAME_OR_PASSWORD if user else NOT_AUTHORIZED)
        client.closed()


@suite.each(*[(door, door) for door in ("tls", "wss", "mtls")])
def a_client_that_trusts_another_authority_goes_no_further(t, door):
    for ca in ("stranger.pem", None):
        client = peer(t, door, ca=ca or "ca.pem", certificate="lamp")
        if ca is None:  # those of the system
            client.client._ssl_context = None
            client.client.tls_set()
        try:
            client.connect()
            check(False, "it connected")
        except ssl.SSLCertVerificationError:
            pass


@suite.test
def the_certificate_is_for_no_other_name(t):
    context = ssl.create_default_context(cafile=file("ca.pem"))
    with socket.create_connection((HOST, port("tls"))) as plain:
        try:
            context.wrap_socket(plain, server_hostname="example.org")
            check(False, "it took the certificate")
        except ssl.SSLCertVerificationError as error:
            check("Hostname mismatch" in str(error), str(error))


@suite.each(*VERSIONS)
def a_client_certificate_is_the_user_it_names(t, version):
    lamp = peer(t, "mtls", version, user=None, certificate="lamp")
    lamp.connect()
    own = "of/lamp/" + fresh_topic()
    lamp.subscribe(own, 1)
    lamp.publish(own, b"mine", 1)
    message_is(lamp.receive(), own, b"mine", 1)
    lamp.subscribe("of/ann/#", 1, expect=0x87 if version == V5 else 0x80)


@suite.each(*VERSIONS)
def no_certificate_and_a_strangers_are_refused(t, version):
    for certificate in (None, "intruder"):
        client = peer(t, "mtls", version, certificate=certificate)
        try:
            client.dial()
            client.closed()  # TLS 1.3: the client learns of it when it first reads
        except (ssl.SSLError, ConnectionError):
            pass
        check(client.connacks.empty(), f"it was answered in spite of {certificate or 'no certificate'}")


def mosquitto(program, *arguments, door="tls"):
    """Runs one of mosquitto's programs to its end: (exit code, what it said, seconds)."""
    where = ["--unix", file("mqtt.sock")] if door == "unix" else ["-h", "localhost", "-p", str(port(door))]
    started = time.monotonic()
    done = subprocess.run([program, *where, *map(str, arguments)], capture_output=True, timeout=3 * DEADLINE_S)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace"), time.monotonic() - started


ANN = ("-u", "ann", "-P", USERS["ann"])
CA = ("--cafile", file("ca.pem"))
LAMP = ("--cert", file("lamp.pem"), "--key", file("lamp.key"))


@suite.each(("password", ("tls", (*CA, *ANN))), ("certificate", ("mtls", (*CA, *LAMP))), ("unix", ("unix", ANN)))
def mosquitto_gets_in(t, case):
    door, shown = case
    topic = "all/" + fresh_topic()
    for version in ("mqttv31", "mqttv311", "mqttv5"):
        code, said, _ = mosquitto("mosquitto_pub", *shown, "-V", version, "-t", topic, "-q", 1, "-r", "-m", version, door=door)
        equal(code, 0, f"exit code of mosquitto_pub ({said})")
        code, said, _ = mosquitto("mosquitto_sub", *shown, "-V", version, "-t", topic, "-q", 1, "-C", 1, "-W", 10, door=door)
        equal((code, said.strip()), (0, version), "mosquitto_sub")


@suite.each(
    ("a_strangers_authority", ("tls", ("--cafile", file("stranger.pem"), *ANN))),
    ("a_strangers_certificate", ("mtls", (*CA, "--cert", file("intruder.pem"), "--key", file("intruder.key")))),
    ("no_certificate", ("mtls", (*CA, *ANN))),
    ("no_TLS", ("tls", ANN)),
    ("a_wrong_password", ("tls", (*CA, "-u", "ann", "-P", "coffee"))),
    ("a_wrong_password_by_the_socket_file", ("unix", ("-u", "ann", "-P", "coffee"))),
)
def mosquitto_is_refused(t, case):
    door, shown = case
    code, said, took = mosquitto("mosquitto_pub", *shown, "-t", "all/t", "-q", 1, "-m", "m", door=door)
    check(code != 0, f"it was let in: {said}")
    check(took < DEADLINE_S, f"it took {took:.1f} s to be refused")


@suite.each(("as_it_comes", ()), ("TLS_1.2", ("--tls-version", "tlsv1.2")), ("PSK_alone", ("--ciphers", "PSK")))
def a_pre_shared_key_is_refused_with_an_explanation(t, more):
    log = pathlib.Path(os.environ["E2E_LOG"])
    explained = lambda: log.read_text(errors="replace").count("the client wants a pre-shared key (TLS-PSK)")
    before = explained()
    for program, end in (("mosquitto_pub", ("-m", "m")), ("mosquitto_sub", ("-W", 5))):
        # At QoS 0, and with no password: were it let in by TLS, that is what mosquitto_pub would tell of.
        code, said, took = mosquitto(program, "--psk", "aabbcc", "--psk-identity", "me", *more, "-t", "all/t", *end)
        check(code != 0, f"{program} was content: {said}")
        check("TLS error" in said, f"{program} said nothing of TLS: {said}")
        check(took < DEADLINE_S, f"{program} took {took:.1f} s to be refused")
    await_until(lambda: explained() == before + 2, "the broker's log to say why")


@suite.test
def the_socket_file_lets_in_whom_its_mode_says(t):
    equal(os.stat(file("mqtt.sock")).st_mode & 0o777, 0o600, "mode")


def proxied(t, door, header):
    """A bare connection that begins with a header."""
    return Raw(t, port(door)).send(header)


def version_2(source, more=b""):
    addresses = socket.inet_aton(source) + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 4711, 1883) + more
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, 0x11]) + struct.pack(">H", len(addresses)) + addresses


def sign_in(link, user="ann"):
    tail = binary(user) + binary(USERS[user])
    connack = link.send(connect(token(), 5, flags=0xC0, tail=tail)).expect(CONNACK)
    equal(connack.reason, 0, "CONNACK reason")


HEADERS = (("v1", lambda source: f"PROXY TCP4 {source} 198.51.100.1 4711 1883\r\n".encode()), ("v2", version_2))


@suite.each(*HEADERS)
def behind_a_proxy_rules_are_about_the_address_that_it_tells(t, header):
    for source, reason in ((PROXIED, 0x10), ("203.0.113.8", 0x87)):
        link = proxied(t, "proxy", header(source))
        sign_in(link)
        link.send(publish("from/there", b"x", 1, 1))
        equal(link.read().reason, reason, f"PUBACK for {source}")


@suite.each(*HEADERS)
def a_proxy_header_from_an_untrusted_source_is_never_believed(t, header):
    link = proxied(t, "distrusting", header(PROXIED) + connect(token()))
    equal(link.read(), None, "answer")


@suite.test
def a_proxy_header_where_none_is_awaited_is_no_mqtt(t):
    link = proxied(t, "tls", HEADERS[0][1](PROXIED))
    link.socket.settimeout(DEADLINE_S)
    check(link.socket.recv(1) in (b"", b"\x15"), "it was answered by more than an alert")


@suite.test
def a_client_behind_a_proxy_that_sends_no_header_is_refused(t):
    equal(Raw(t, port("proxy")).send(connect(token())).read(), None, "answer")


suite.main()
