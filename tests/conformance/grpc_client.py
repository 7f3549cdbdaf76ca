"""Calls by Python's grpcio: grpc_client.py ADDRESS CA-FILE|- CASE...; fails with the first broken promise.

With a CA file it speaks TLS, to www.example.com; else HTTP/2 by prior knowledge.
"""

import sys
import time
from pathlib import Path

import grpc

SERVICE = "/conformance.Echo/"
SECONDS = 20


def refusal(call):
    """The status with which a call fails."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError(f"answered: {answer!r}")


class Caller:
    def __init__(self, address, roots):
        options = [("grpc.enable_retries", 0), ("grpc.default_authority", "www.example.com")]
        if roots == "-":
            self.channel = grpc.insecure_channel(address, options)
        else:
            credentials = grpc.ssl_channel_credentials(Path(roots).read_bytes())
            options.append(("grpc.ssl_target_name_override", "www.example.com"))
            self.channel = grpc.secure_channel(address, credentials, options)

    def unary(self, name, request=b"", **more):
        return self.channel.unary_unary(name if name[0] == "/" else SERVICE + name)(
            request, timeout=more.pop("timeout", SECONDS), **more
        )

    def stream(self, name, request=b"", **more):
        return self.channel.unary_stream(SERVICE + name)(
            request, timeout=more.pop("timeout", SECONDS), **more
        )

    def collect(self, requests):
        return self.channel.stream_unary(SERVICE + "collect")(requests, timeout=SECONDS)

    def converse(self, requests):
        return self.channel.stream_stream(SERVICE + "converse")(requests, timeout=SECONDS)


def case_unary(caller):
    """A message, its metadata, its trailers and its status."""
    asked = [("x-ask", "words"), ("x-ask-bin", bytes(range(256)))]
    answer, call = caller.channel.unary_unary(SERVICE + "echo").with_call(
        b"hello", timeout=SECONDS, metadata=asked
    )
    assert answer == b"hello", answer
    assert call.code() == grpc.StatusCode.OK, call.code()
    assert dict(call.initial_metadata())["x-head"] == "words", call.initial_metadata()
    trailers = dict(call.trailing_metadata())
    assert trailers["x-trailer"] == "words", trailers
    assert trailers["x-trailer-bin"] == bytes(range(256)), trailers
    assert caller.unary("echo") == b"", "an empty message"
    assert caller.unary("echo", b"x" * 10_000, compression=grpc.Compression.Gzip) == b"x" * 10_000


def case_client_stream(caller):
    assert caller.collect(iter([b"x" * n for n in range(100)])) == b"100 4950"
    assert caller.collect(iter([])) == b"0 0", "a stream without a message"


def case_server_stream(caller):
    numbers = [int.from_bytes(message[:4], "big") for message in caller.stream("send", b"500 1000")]
    assert numbers == list(range(500)), numbers


def case_bidirectional(caller):
    """Each message is sent only when the one before it has come back: nothing waits for more."""
    arrived = []

    def requests():
        for n in range(100):
            yield str(n).encode()
            late = time.monotonic() + 5
            while len(arrived) <= n:
                assert time.monotonic() < late, f"message {n} is held back"
                time.sleep(0.001)

    call = caller.converse(requests())
    for message in call:
        arrived.append(message)
    assert arrived == [str(n).encode() for n in range(100)], arrived
    assert dict(call.trailing_metadata())["x-trailer"] == "after all"
    assert call.code() == grpc.StatusCode.OK


def case_status(caller):
    """A status after messages, and one without any, with their words and trailers."""
    call, got = caller.stream("fail"), []
    code, details = refusal(lambda: [got.append(message) for message in call])
    assert got == [b"one", b"two"], got
    assert (code, details) == (grpc.StatusCode.FAILED_PRECONDITION, "it is 50% done: größer")
    assert dict(call.trailing_metadata())["x-why"] == "because", call.trailing_metadata()
    found = refusal(lambda: list(caller.stream("refuse")))
    assert found == (grpc.StatusCode.NOT_FOUND, "no such thing"), found
    code, _ = refusal(lambda: caller.unary("no-such-method"))
    assert code == grpc.StatusCode.UNIMPLEMENTED, code


def case_deadline(caller):
    """The server knows the caller's deadline, and sees that it has passed."""
    left = float(caller.unary("remaining", timeout=10))
    # What it is told is rounded up.
    assert 5 < left < 12, left
    waiting = caller.stream("wait", timeout=0.5)
    assert next(waiting) == b"waiting"
    code, _ = refusal(lambda: list(waiting))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code
    assert caller.unary("gone") == b"yes", "the server still waits"


def case_cancel(caller):
    """Who gives up is seen to have given up."""
    waiting = caller.stream("wait")
    assert next(waiting) == b"waiting"
    waiting.cancel()
    code, _ = refusal(lambda: list(waiting))
    assert code == grpc.StatusCode.CANCELLED, code
    assert caller.unary("gone") == b"yes", "the server still waits"


def case_own_errors(caller):
    """What Proxima itself says comes as a status of gRPC, with the id of the request."""
    for name, expected in [
        ("/no.such.Service/call", grpc.StatusCode.UNIMPLEMENTED),
        ("/dead.Service/call", grpc.StatusCode.UNAVAILABLE),
        ("/denied.Service/call", grpc.StatusCode.PERMISSION_DENIED),
        ("/late.Service/wait", grpc.StatusCode.DEADLINE_EXCEEDED),
    ]:
        code, details = refusal(lambda: caller.unary(name, metadata=[("x-request-id", "asked-7")]))
        assert code == expected, (name, code, details)
        assert "(request id asked-7)" in details, (name, details)
    code, details = refusal(lambda: caller.unary("/limited.Service/call", bytes(100_000)))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED, (code, details)


def case_big(caller):
    """64 MB each way at once, and a message of 3 MB."""
    size, count = 64 * 1024, 1024
    piece = bytes(range(256)) * (size // 256)
    got = 0
    for message in caller.converse(piece for _ in range(count)):
        assert message == piece, f"message {got} is another one"
        got += 1
    assert got == count, got
    large = bytes(range(256)) * (3 * 1024 * 4)
    assert caller.unary("echo", large) == large


def case_together(caller):
    """A hundred calls at once on one connection."""
    calls = [
        caller.channel.unary_unary(SERVICE + "echo").future(str(n).encode(), timeout=SECONDS) for n in range(100)
    ]
    assert [int(call.result()) for call in calls] == list(range(100))


def main():
    address, roots, *cases = sys.argv[1:]
    caller = Caller(address, roots)
    for case in cases:
        globals()[f"case_{case}"](caller)
        print(f"held: {case}", flush=True)


main()
