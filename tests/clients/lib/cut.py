"""A link that breaks on command: forwards packets between a client and the broker and cuts once, exactly where told."""

import socket
import threading

from lib.harness import HOST

TO_BROKER, TO_CLIENT = "to broker", "to client"


class Link:
    """Listens on `port`. The n-th packet of `kind` in `direction` is not forwarded; the connection is cut there.

    With `half=True` the first half of that packet goes through before the cut. Later connections pass untouched.
    """

    def __init__(self, t, direction, kind, nth=1, half=False):
        self.target, self.direction, self.kind, self.left, self.half = t.port, direction, kind, nth, half
        self.cut = threading.Event()
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []
        t.adopt(self, self.close)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        for each in (self.listener, *self.sockets):
            drop(each)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            broker = socket.create_connection((HOST, self.target))
            self.sockets += (client, broker)
            for source, sink, direction in ((client, broker, TO_BROKER), (broker, client, TO_CLIENT)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._forward, args=(source, sink, direction), daemon=True).start()

    def _forward(self, source, sink, direction):
        try:
            while (data := read_packet(source)) is not None:
                if self._cuts_here(direction, data):
                    if self.half:
                        sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
        except OSError:
            pass
        drop(source)
        drop(sink)

    def _cuts_here(self, direction, data):
        if self.cut.is_set() or direction != self.direction or data[0] >> 4 != self.kind:
            return False
        self.left -= 1
        if self.left == 0:
            self.cut.set()
        return self.left == 0


def drop(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()


def read_packet(source):
    """One whole packet as bytes, or None at the end of the stream."""
    head = bytearray()
    while len(head) < 2 or head[-1] & 0x80:
        byte = source.recv(1)
        if not byte:
            return None
        head += byte
    length = sum((byte & 127) << 7 * at for at, byte in enumerate(head[1:]))
    body = bytearray()
    while len(body) < length:
        data = source.recv(length - len(body))
        if not data:
            return None
        body += data
    return bytes(head + body)
