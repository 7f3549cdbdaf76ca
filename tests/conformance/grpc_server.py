"""A gRPC server by Python's grpcio: grpc_server.py [CERTIFICATE KEY]; messages are plain bytes.

It ends when its standard input does.
"""

import contextlib
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE = "conformance.Echo"

cancelled = threading.Semaphore(0)


def echo(request, context):
    """The request again; what came as metadata `x-ask` goes back in the head and in the trailers."""
    asked = [value for key, value in context.invocation_metadata() if key == "x-ask"]
    binary = [value for key, value in context.invocation_metadata() if key == "x-ask-bin"]
    context.send_initial_metadata([("x-head", value) for value in asked])
    context.set_trailing_metadata(
        [("x-trailer", value) for value in asked] + [("x-trailer-bin", value) for value in binary]
    )
    return request


def collect(requests, context):
    """How many messages came, and their bytes."""
    sizes = [len(request) for request in requests]
    return f"{len(sizes)} {sum(sizes)}".encode()


def send(request, context):
    """So many messages of such a size."""
    count, size = map(int, request.split())
    for n in range(count):
        yield n.to_bytes(4, "big") + bytes(size - 4)


def converse(requests, context):
    """Each message again, as soon as it is there."""
    context.set_trailing_metadata([("x-trailer", "after all")])
    yield from requests


def fail(request, context):
    """Two messages, then a status that is not OK."""
    yield b"one"
    yield b"two"
    context.set_trailing_metadata([("x-why", "because")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it is 50% done: größer")


def refuse(request, context):
    """A status at once, before any message."""
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")


def remaining(request, context):
    """The time that the caller leaves, in seconds."""
    left = context.time_remaining()
    return str(left).encode()


def wait(request, context):
    """One message, and then nothing until the caller is gone."""
    gone = threading.Event()

    def left():
        # Here, for who leaves at once is not asked for another message.
        cancelled.release()
        gone.set()

    if not context.add_callback(left):
        left()
    yield b"waiting"
    gone.wait(30)


def silent(request, context):
    """No message at all until the caller is gone."""
    return b"".join(list(wait(request, context))[:0])


def gone(request, context):
    """Whether the caller of `wait` was seen to leave."""
    return b"yes" if cancelled.acquire(timeout=5) else b"no"


def handlers():
    unary = {"echo": echo, "remaining": remaining, "gone": gone, "silent": silent}
    streams = {"send": send, "fail": fail, "refuse": refuse, "wait": wait}
    methods = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in unary.items()}
    methods |= {name: grpc.unary_stream_rpc_method_handler(call) for name, call in streams.items()}
    methods["collect"] = grpc.stream_unary_rpc_method_handler(collect)
    methods["converse"] = grpc.stream_stream_rpc_method_handler(converse)
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def healths():
    """The whole server serves and so does its service; another one does not."""
    servicer = health.HealthServicer()
    servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    servicer.set("ailing.Service", health_pb2.HealthCheckResponse.NOT_SERVING)
    return servicer


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers([handlers()])
    health_pb2_grpc.add_HealthServicer_to_server(healths(), server)
    if len(sys.argv) == 1:
        port = server.add_insecure_port("127.0.0.1:0")
        with contextlib.suppress(RuntimeError):  # A machine without IPv6.
            server.add_insecure_port(f"[::1]:{port}")
    else:
        certificate, key = (Path(name).read_bytes() for name in sys.argv[1:3])
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    server.stop(None)


main()
