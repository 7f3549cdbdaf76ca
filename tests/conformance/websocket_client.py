"""Sessions by Python's websockets: websocket_client.py ws|wss ADDRESS CA-FILE; fails with the first broken promise."""

import socket
import ssl
import sys

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

SECONDS = 10


class Caller:
    def __init__(self, scheme, address, roots):
        host, port = address.rsplit(":", 1)
        self.url = f"{scheme}://www.example.com:{port}"
        self.address = host, int(port)
        self.options = {"open_timeout": SECONDS, "max_size": 4 << 20, "proxy": None}
        if scheme == "wss":
            self.options["ssl"] = ssl.create_default_context(cafile=roots)

    def open(self, path="/echo", **more):
        opened = socket.create_connection(self.address, timeout=SECONDS)
        return connect(self.url + path, sock=opened, **self.options, **more)

    def closes(self):
        with self.open("/closes") as session:
            return session.recv(SECONDS)


def case_messages(caller):
    """Text and binary messages, small ones and one of 1 MB, in their order and unchanged."""
    large = bytes(range(256)) * 4096
    for compression in ["deflate", None]:
        with caller.open(compression=compression) as session:
            for message in ["", "words, größere auch", b"", bytes(range(256)), large, "x" * len(large)]:
                session.send(message)
                answer = session.recv(SECONDS)
                assert answer == message, (type(answer), len(answer), len(message))
            for n in range(200):
                session.send(str(n))
            assert [session.recv(SECONDS) for _ in range(200)] == [str(n) for n in range(200)]
        assert caller.closes() == "1000 "


def case_terms(caller):
    """What the two agree on is agreed on through Proxima: subprotocol and compression."""
    with caller.open(subprotocols=["chat.v1", "chat.v2"]) as session:
        assert session.subprotocol == "chat.v2", session.subprotocol
        assert [extension.name for extension in session.protocol.extensions] == ["permessage-deflate"]
    caller.closes()
    with caller.open("/whom") as session:
        assert session.recv(SECONDS) == "127.0.0.1"


def case_ping(caller):
    with caller.open() as session:
        assert session.ping(b"are you there").wait(SECONDS), "no pong"
    caller.closes()


def case_close_codes(caller):
    """Whoever closes, the other one learns why."""
    with caller.open() as session:
        session.close(4000, "enough")
    assert caller.closes() == "4000 enough"
    try:
        with caller.open("/leave") as session:
            session.recv(SECONDS)
        raise AssertionError("not closed")
    except ConnectionClosed as closed:
        assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "it is late"), closed


def case_refused(caller):
    """A session that there is no service for is refused with a status, as any other request."""
    try:
        with caller.open("/nowhere"):
            raise AssertionError("it was let in")
    except InvalidStatus as refused:
        assert refused.response.status_code == 404, refused


def main():
    caller = Caller(*sys.argv[1:4])
    for case in [case_messages, case_terms, case_ping, case_close_codes, case_refused]:
        case(caller)
        print(f"held: {case.__name__}", flush=True)


main()
