"""Sessions by Python's websockets: websocket_client.py ws|wss ADDRESS CA-FILE; fails with the first broken promise.

By asyncio: its client for threads reads and writes one TLS connection at once, and loses answers.
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

SECONDS = 10


class Caller:
    def __init__(self, scheme, address, roots):
        host, port = address.rsplit(":", 1)
        self.url = f"{scheme}://www.example.com:{port}"
        self.options = {"host": host, "port": int(port), "open_timeout": SECONDS, "max_size": 4 << 20, "proxy": None}
        if scheme == "wss":
            self.options["ssl"] = ssl.create_default_context(cafile=roots)

    def open(self, path="/echo", **more):
        return connect(self.url + path, **self.options, **more)

    async def closes(self):
        async with self.open("/closes") as session:
            return await session.recv()


async def case_messages(caller):
    """Text and binary messages, small ones and one of 1 MB, in their order and unchanged."""
    large = bytes(range(256)) * 4096
    for compression in ["deflate", None]:
        async with caller.open(compression=compression) as session:
            for message in ["", "words, größere auch", b"", bytes(range(256)), large, "x" * len(large)]:
                await session.send(message)
                answer = await session.recv()
                assert answer == message, (type(answer), len(answer), len(message))
            for n in range(200):
                await session.send(str(n))
            assert [await session.recv() for _ in range(200)] == [str(n) for n in range(200)]
        assert await caller.closes() == "1000 "


async def case_terms(caller):
    """What the two agree on is agreed on through Proxima: subprotocol and compression."""
    async with caller.open(subprotocols=["chat.v1", "chat.v2"]) as session:
        assert session.subprotocol == "chat.v2", session.subprotocol
        assert [extension.name for extension in session.protocol.extensions] == ["permessage-deflate"]
    await caller.closes()
    async with caller.open("/whom") as session:
        assert await session.recv() == "127.0.0.1"


async def case_ping(caller):
    async with caller.open() as session:
        await (await session.ping(b"are you there"))
    await caller.closes()


async def case_close_codes(caller):
    """Whoever closes, the other one learns why."""
    async with caller.open() as session:
        await session.close(4000, "enough")
    assert await caller.closes() == "4000 enough"
    try:
        async with caller.open("/leave") as session:
            await session.recv()
        raise AssertionError("not closed")
    except ConnectionClosed as closed:
        assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "it is late"), closed


async def case_refused(caller):
    """A session that there is no service for is refused with a status, as any other request."""
    try:
        async with caller.open("/nowhere"):
            raise AssertionError("it was let in")
    except InvalidStatus as refused:
        assert refused.response.status_code == 404, refused


async def main():
    caller = Caller(*sys.argv[1:4])
    for case in [case_messages, case_terms, case_ping, case_close_codes, case_refused]:
        await asyncio.wait_for(case(caller), 3 * SECONDS)
        print(f"held: {case.__name__}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
