"""Broken and odd HTTP/2 against a server by prior knowledge: h2_frames.py ADDRESS.

Frames are made one by one with hyperframe and hpack, so that they can be wrong. Each case names the section of
RFC 9113 (or 7541, 8441) that says what has to follow. Fails with all broken promises.
"""

import socket
import sys

from hpack import Decoder, Encoder
from hyperframe import frame as frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SECONDS = 5

GOOD = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
POST = [(":method", "POST"), *GOOD[1:]]

PROTOCOL, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE, COMPRESSION = 1, 3, 5, 6, 9


class Peer:
    """A connection and what came over it."""

    def __init__(self, address, preface=PREFACE, settings=b""):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=SECONDS)
        self.encoder, self.decoder = Encoder(), Decoder()
        self.buffer, self.events = b"", []
        self.send(preface, settings or frames.SettingsFrame(0))

    def send(self, *pieces):
        try:
            for piece in pieces:
                self.socket.sendall(piece if isinstance(piece, bytes) else piece.serialize())
        except OSError:
            pass  # What it said before it closed is still to be read.

    def head(self, stream, fields=tuple(GOOD), flags=("END_STREAM", "END_HEADERS"), **more):
        return frames.HeadersFrame(stream, self.encoder.encode(fields), flags=flags, **more)

    def next(self):
        """The next event: (stream, kind, value), or None at the end."""
        while True:
            if len(self.buffer) >= 9:
                frame, length = frames.Frame.parse_frame_header(memoryview(self.buffer[:9]))
                if len(self.buffer) >= 9 + length:
                    frame.parse_body(memoryview(self.buffer[9 : 9 + length]))
                    self.buffer = self.buffer[9 + length :]
                    return self.event(frame)
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not piece:
                return None
            self.buffer += piece

    def event(self, frame):
        match frame:
            case frames.HeadersFrame():
                fields = dict(self.decoder.decode(frame.data))
                return frame.stream_id, "status", int(fields.get(":status", 0))
            case frames.RstStreamFrame():
                return frame.stream_id, "reset", frame.error_code
            case frames.GoAwayFrame():
                return 0, "goaway", frame.error_code
            case frames.PingFrame() if "ACK" in frame.flags:
                return 0, "pong", frame.opaque_data
            case frames.SettingsFrame() if "ACK" not in frame.flags:
                return 0, "settings", frame.settings
            case _:
                return frame.stream_id, type(frame).__name__, frame.body_len

    def until(self, wanted):
        """Reads up to an event that `wanted` takes; the end is `(0, "end", None)`."""
        while True:
            event = self.next() or (0, "end", None)
            if wanted(event) or event[1] == "end":
                return event


class Served:
    """200 on stream 1."""

    codes = ()

    def outcome(self, peer):
        return peer.until(lambda e: e[1] == "goaway" or (e[0] == 1 and e[1] in ("status", "reset")))[1:]

    def takes(self, got):
        return got == ("status", 200)


class StreamFails(Served):
    """RST_STREAM, or 400, or an error of the connection, which may always stand for it (section 5.4.2)."""

    def __init__(self, *codes):
        self.codes = codes

    def takes(self, got):
        return got == ("status", 400) or (got[0] in ("reset", "goaway") and got[1] in self.codes)


class ConnectionFails(StreamFails):
    """GOAWAY, or just the end of the connection, which section 5.4.1 allows.

    PROTOCOL_ERROR is taken for every code: it says the same with less detail.
    """

    def outcome(self, peer):
        return peer.until(lambda e: e[1] == "goaway")[1:]

    def takes(self, got):
        return got[0] == "end" or (got[0] == "goaway" and got[1] in (PROTOCOL, *self.codes))


class Refused(Served):
    """A reset, or an answer that says no."""

    def takes(self, got):
        return got[0] == "reset" or (got[0] == "status" and 400 <= got[1] < 600)


def raw(length, kind, flags, stream, body):
    return length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def headers_with(*more, base=GOOD):
    return lambda p: p.send(p.head(1, [*base, *more]))


def without(name):
    return lambda p: p.send(p.head(1, [pair for pair in GOOD if pair[0] != name]))


def open_post(p, *more):
    p.send(p.head(1, [*POST, *more], flags=("END_HEADERS",)))


def body_of(length, *datas):
    """A POST that announces a length and sends these pieces."""

    def act(p):
        open_post(p, ("content-length", str(length)))
        for data in datas[:-1]:
            p.send(frames.DataFrame(1, data))
        p.send(frames.DataFrame(1, datas[-1], flags=["END_STREAM"]))

    return act


def split_head(p, between=()):
    block = p.encoder.encode(GOOD)
    head = frames.HeadersFrame(1, block[:5], flags=["END_STREAM"])
    p.send(head, *between, frames.ContinuationFrame(1, block[5:], flags=["END_HEADERS"]))


def settings(number, value):
    return lambda p: p.send(raw(6, 4, 0, 0, number.to_bytes(2, "big") + value.to_bytes(4, "big")))


def window(stream, by):
    return raw(4, 8, 0, stream, by.to_bytes(4, "big"))


def overflown(p):
    open_post(p)
    p.send(window(1, 2**31 - 1))


def ping_of_six(p):
    p.send(raw(6, 6, 0, 0, bytes(6)))


def extended_connect(p):
    """RFC 8441, as a client would that did not look whether it is offered."""
    fields = [(":method", "CONNECT"), (":protocol", "websocket"), *GOOD[1:], ("sec-websocket-version", "13")]
    p.send(p.head(1, fields, flags=("END_HEADERS",)))


def plain_connect(p):
    p.send(p.head(1, [(":method", "CONNECT"), (":authority", "www.example.com:443")], flags=("END_HEADERS",)))


CASES = [
    ("3.4 a request after the preface is served", lambda p: p.send(p.head(1)), Served()),
    ("4.1 a frame of an unknown type is ignored", lambda p: p.send(raw(3, 0x7F, 0xFF, 0, b"abc"), p.head(1)), Served()),
    ("4.1 unknown flags are ignored", lambda p: p.send(raw(8, 6, 0xF6, 0, bytes(8)), p.head(1)), Served()),
    ("4.2 a frame above SETTINGS_MAX_FRAME_SIZE", lambda p: p.send(raw(1 << 23, 0, 0, 1, b"")), ConnectionFails(FRAME_SIZE)),
    ("4.3 an index that HPACK's tables lack", lambda p: p.send(raw(3, 1, 5, 1, b"\xff\xc8\x03")), ConnectionFails(COMPRESSION)),
    ("5.1 DATA on an idle stream", lambda p: p.send(raw(1, 0, 0, 1, b"x")), ConnectionFails(STREAM_CLOSED)),
    ("5.1 RST_STREAM on an idle stream", lambda p: p.send(raw(4, 3, 0, 1, bytes(4))), ConnectionFails()),
    ("5.1 WINDOW_UPDATE on an idle stream", lambda p: p.send(window(1, 1)), ConnectionFails()),
    ("5.1.1 a stream of an even number", lambda p: p.send(p.head(2)), ConnectionFails()),
    ("5.1.1 a stream below the last one", lambda p: p.send(p.head(5), p.head(3)), ConnectionFails(STREAM_CLOSED)),
    ("6.1 DATA on stream 0", lambda p: p.send(raw(1, 0, 0, 0, b"x")), ConnectionFails()),
    ("6.1 padding longer than the frame", lambda p: (open_post(p), p.send(raw(2, 0, 8, 1, b"\x09x"))), ConnectionFails()),
    ("6.2 HEADERS on stream 0", lambda p: p.send(raw(1, 1, 4, 0, b"\x82")), ConnectionFails()),
    ("6.2 a padded head with priority is served", lambda p: p.send(p.head(1, flags=("END_STREAM", "END_HEADERS", "PADDED", "PRIORITY"), pad_length=7)), Served()),
    ("6.3 PRIORITY on stream 0", lambda p: p.send(raw(5, 2, 0, 0, bytes(5))), ConnectionFails()),
    ("6.4 RST_STREAM on stream 0", lambda p: p.send(raw(4, 3, 0, 0, bytes(4))), ConnectionFails()),
    ("6.4 RST_STREAM of three bytes", lambda p: (open_post(p), p.send(raw(3, 3, 0, 1, bytes(3)))), ConnectionFails(FRAME_SIZE)),
    ("6.5 SETTINGS of five bytes", lambda p: p.send(raw(5, 4, 0, 0, bytes(5))), ConnectionFails(FRAME_SIZE)),
    ("6.5 SETTINGS on a stream", lambda p: p.send(raw(0, 4, 0, 1, b"")), ConnectionFails()),
    ("6.5 an acknowledgement with a payload", lambda p: p.send(raw(6, 4, 1, 0, bytes(6))), ConnectionFails(FRAME_SIZE)),
    ("6.5.2 ENABLE_PUSH of 2", settings(2, 2), ConnectionFails()),
    ("6.5.2 a window above 2^31-1", settings(4, 2**31), ConnectionFails(FLOW_CONTROL)),
    ("6.5.2 MAX_FRAME_SIZE below 16384", settings(5, 16383), ConnectionFails()),
    ("6.5.2 an unknown setting is ignored", lambda p: (settings(0xF0, 7)(p), p.send(p.head(1))), Served()),
    ("6.6 PUSH_PROMISE of a client", lambda p: p.send(raw(5, 5, 4, 1, b"\0\0\0\2\x82")), ConnectionFails()),
    ("6.7 PING on a stream", lambda p: p.send(raw(8, 6, 0, 1, bytes(8))), ConnectionFails()),
    ("6.7 PING of six bytes", ping_of_six, ConnectionFails(FRAME_SIZE)),
    ("6.8 GOAWAY on a stream", lambda p: p.send(raw(8, 7, 0, 1, bytes(8))), ConnectionFails()),
    ("6.9 a connection window of 0 more", lambda p: p.send(window(0, 0)), ConnectionFails()),
    ("6.9 a stream window of 0 more", lambda p: (open_post(p), p.send(window(1, 0))), StreamFails(PROTOCOL)),
    ("6.9.1 a connection window above 2^31-1", lambda p: p.send(window(0, 2**31 - 1)), ConnectionFails(FLOW_CONTROL)),
    ("6.9.1 a stream window above 2^31-1", overflown, StreamFails(FLOW_CONTROL)),
    ("6.10 a head in two frames is served", split_head, Served()),
    ("6.10 another frame within a head", lambda p: split_head(p, [frames.PingFrame(0, b"12345678")]), ConnectionFails()),
    ("6.10 CONTINUATION of nothing", lambda p: p.send(raw(1, 9, 4, 1, b"\x82")), ConnectionFails()),
    ("8.1 a second head without an end", lambda p: (open_post(p), p.send(p.head(1, [("x", "y")], flags=("END_HEADERS",)))), StreamFails(PROTOCOL)),
    # Section 8.1 wants an error; the h2 crate drops such fields, and nothing of them goes on.
    ("8.1 pseudo fields in trailers", lambda p: (open_post(p), p.send(p.head(1, [(":path", "/x")]))), Served()),
    ("8.1.1 a body longer than its length", body_of(3, b"four"), StreamFails(PROTOCOL)),
    ("8.1.1 a body shorter than its length", body_of(5, b"four"), StreamFails(PROTOCOL)),
    ("8.1.1 a length that is no number", headers_with(("content-length", "+3"), base=POST), StreamFails(PROTOCOL)),
    ("8.2.1 a name in capitals", headers_with(("X-Upper", "x")), StreamFails(PROTOCOL)),
    ("8.2.1 a line end in a value", headers_with(("x", "a\r\nb: c")), StreamFails(PROTOCOL)),
    ("8.2.1 NUL in a value", headers_with(("x", "a\0b")), StreamFails(PROTOCOL)),
    ("8.2.2 Connection", headers_with(("connection", "close")), StreamFails(PROTOCOL)),
    ("8.2.2 Transfer-Encoding", headers_with(("transfer-encoding", "chunked"), base=POST), StreamFails(PROTOCOL)),
    ("8.2.2 TE of more than trailers", headers_with(("te", "gzip")), StreamFails(PROTOCOL)),
    ("8.2.2 TE: trailers is served", headers_with(("te", "trailers")), Served()),
    ("8.2.3 cookies in crumbs are served", headers_with(("cookie", "a=1"), ("cookie", "b=2")), Served()),
    ("8.3 an unknown pseudo field", headers_with((":secret", "x")), StreamFails(PROTOCOL)),
    ("8.3 a pseudo field of answers", headers_with((":status", "200")), StreamFails(PROTOCOL)),
    ("8.3 a pseudo field after others", lambda p: p.send(p.head(1, [*GOOD[:3], ("x", "y"), GOOD[3]])), StreamFails(PROTOCOL)),
    ("8.3.1 no method", without(":method"), StreamFails(PROTOCOL)),
    ("8.3.1 no scheme", without(":scheme"), StreamFails(PROTOCOL)),
    ("8.3.1 no path", without(":path"), StreamFails(PROTOCOL)),
    ("8.3.1 an empty path", lambda p: p.send(p.head(1, [GOOD[0], GOOD[1], (":path", ""), GOOD[3]])), StreamFails(PROTOCOL)),
    ("8.3.1 two paths", headers_with(GOOD[2], base=[GOOD[2], *GOOD[:2], GOOD[3]]), StreamFails(PROTOCOL)),
    ("8.3.1 Host beside another authority", headers_with(("host", "other.example.com")), StreamFails(PROTOCOL)),
    ("8.5 CONNECT to another host", plain_connect, Refused()),
    ("RFC 8441 extended CONNECT, which is not offered", extended_connect, StreamFails(PROTOCOL)),
    ("the edge goes on after all that", lambda p: p.send(p.head(1)), Served()),
]


def pings(address):
    """6.7: the answer has the same eight bytes. And RFC 8441 is not offered (SETTINGS_ENABLE_CONNECT_PROTOCOL)."""
    peer = Peer(address)
    offered = peer.until(lambda e: e[1] == "settings")[2]
    assert offered.get(8, 0) == 0, offered
    peer.send(frames.PingFrame(0, b"12345678"))
    assert peer.until(lambda e: e[1] == "pong")[2] == b"12345678"


def early(address):
    """8.1: an answer before the end of the request is whole; then the rest is declined by NO_ERROR."""
    peer = Peer(address)
    open_small = [POST[0], POST[1], (":path", "/small"), POST[3]]
    more = [("content-length", "10000"), ("expect", "100-continue")]
    peer.send(peer.head(1, [*open_small, *more], flags=("END_HEADERS",)))
    events = []
    while not events or events[-1][0] not in ("reset", "end", "goaway"):
        event = peer.next() or (1, "end", None)
        events += [event[1:]] if event[0] == 1 else []
    assert events[0] == ("status", 413) and events[1][0] == "DataFrame", events
    assert events[-1] == ("reset", 0), events


def main():
    address, broken = sys.argv[1], []
    pings(address)
    early(address)
    for name, act, expected in CASES:
        peer = Peer(address)
        act(peer)
        try:
            got = expected.outcome(peer)
        except TimeoutError:
            got = ("silence", SECONDS)
        if not expected.takes(got):
            broken.append(f"{name}: {got}")
        peer.socket.close()
    print(f"{len(CASES)} cases")
    assert not broken, "\n" + "\n".join(broken)


main()
