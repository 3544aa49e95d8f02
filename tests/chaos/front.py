"""A front of an HTTP server that answers some requests itself, as a store does that is overloaded or trusts no more."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

Answer = Callable[[str, str], int | None]
_WORDS = {403: ("Forbidden", "AccessDenied"), 503: ("Service Unavailable", "SlowDown")}


class Front:
    """Listens on a port of its own. `answer`: method and path → the status it answers with, None to let it through.

    `delay_s`: how long each piece of a request is held back. `refused`: how many requests it has answered.
    """

    def __init__(self, host: str, port: int, answer: Answer = lambda method, path: None, delay_s: float = 0.0) -> None:
        self._server, self._answer, self._delay_s = (host, port), answer, delay_s
        self.refused = self.delayed = 0
        self._ending = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with self._listener:
            while not self._ending.is_set():
                with suppress(TimeoutError):
                    client, _ = self._listener.accept()
                    self._threads.append(threading.Thread(target=self._carry, args=(client,)))
                    self._threads[-1].start()

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            while not self._ending.is_set():
                for source in select.select([client, server], [], [], 0.05)[0]:
                    data = source.recv(65536)
                    if not data or (source is client and self._refuses(client, data)):
                        return
                    if source is client and self._delay_s:
                        self.delayed += 1
                        time.sleep(self._delay_s)
                    (server if source is client else client).sendall(data)

    def _refuses(self, client: socket.socket, data: bytes) -> bool:
        words = data.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return False  # the rest of a request
        status = self._answer(words[0].decode(), words[1].decode())
        if status is None:
            return False
        self.refused += 1
        reason, code = _WORDS[status]
        body = f"<Error><Code>{code}</Code><Message>{reason}</Message></Error>"
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\nConnection: close\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        return True


__all__ = ["Front"]
