"""A WebSocket server by Python's websockets. It ends when its standard input does."""

import queue
import sys
import threading

from websockets.exceptions import ConnectionClosedError
from websockets.sync.server import serve

closes = queue.Queue()


def session(connection):
    """`/echo` sends everything back, `/leave` closes at once, `/closes` tells how sessions of `/echo` ended."""
    path = connection.request.path
    if path == "/leave":
        connection.close(4001, "it is late")
    elif path == "/closes":
        connection.send(closes.get(timeout=5))
    elif path == "/whom":
        connection.send(connection.request.headers["X-Forwarded-For"])
    else:
        try:
            for message in connection:
                connection.send(message)
        except ConnectionClosedError:
            pass  # Any code but 1000 and 1001.
        closes.put(f"{connection.close_code} {connection.close_reason}")


def chosen(connection, offered):
    return "chat.v2" if "chat.v2" in offered else None


def main():
    options = {"max_size": 4 << 20, "select_subprotocol": chosen}
    with serve(session, "127.0.0.1", 0, **options) as server:
        host, port = server.socket.getsockname()[:2]
        print(f"listening {host}:{port}", flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
        server.serve_forever()


main()
