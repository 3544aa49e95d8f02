"""A TCP proxy that spoils one connection after so many bytes: reset, half-closed, delayed, or swallowed without a word.

Swallowed means: packets are dropped unseen, as on a network that has gone. A proxy that only stopped reading would
still acknowledge; a socket filter that passes nothing does not (no privilege needed).
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Literal

Spoil = Literal["reset", "half-close", "delay", "black-hole"]
Direction = Literal["up", "down"]  # up: from the runner to the server
_SO_ATTACH_FILTER = 26
_RETURN_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
_DELAY_S = 0.2


class Proxy:
    """Listens on a port of its own; the connection that carries byte number `after` in `direction` is spoiled."""

    def __init__(self, host: str, port: int, spoil: Spoil, direction: Direction, after: int) -> None:
        self._server = (host, port)
        self._spoil, self._direction = spoil, direction
        self._left = after
        self._guard = threading.Lock()
        self._ending = threading.Event()
        self.spoiled = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """End it and every connection through it."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with self._listener:
            while not self._ending.is_set():
                with suppress(TimeoutError):
                    runner, _ = self._listener.accept()
                    self._threads.append(threading.Thread(target=self._carry, args=(runner,)))
                    self._threads[-1].start()

    def _carry(self, runner: socket.socket) -> None:
        """Carry bytes both ways until both sides have ended. One thread: nobody sits in a socket that is reset."""
        with runner, suppress(OSError), socket.create_connection(self._server) as server:
            sinks = {runner: server, server: runner}
            for each in sinks:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while sinks and not self._ending.is_set():
                for source in select.select(list(sinks), [], [], 0.05)[0]:
                    data = source.recv(65536)
                    sink = sinks[source]
                    head = self._due("up" if source is runner else "down", data)
                    if head is not None:
                        sink.sendall(data[:head])
                        data = data[head:]
                        if self._spoils(runner, server, sink):
                            return
                    if data:
                        sink.sendall(data)
                    elif head is None:
                        del sinks[source]
                        sink.shutdown(socket.SHUT_WR)

    def _due(self, direction: Direction, data: bytes) -> int | None:
        """Return how many bytes come before the one that is waited for; None when it is not in `data`."""
        with self._guard:
            if self.spoiled or direction != self._direction:
                return None
            before, self._left = self._left, self._left - len(data)
            self.spoiled = self._left < 0
            return before if self.spoiled else None

    def _spoils(self, runner: socket.socket, server: socket.socket, sink: socket.socket) -> bool:
        """Do it; return whether the connection carries nothing more."""
        if self._spoil == "delay":
            time.sleep(_DELAY_S)
            return False
        if self._spoil == "half-close":
            sink.shutdown(socket.SHUT_WR)
            sink.settimeout(30)
            while sink.recv(65536):  # what it still says is lost
                pass
        else:
            if self._spoil == "black-hole":
                for each in (runner, server):
                    _deafen(each)
                self._ending.wait()
            # A plain close would wait for the acknowledgement of what was sent last, and a deaf side never hears it.
            for each in (runner, server):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return True


def _deafen(connection: socket.socket) -> None:
    """Drop every packet that comes, acknowledgements too."""
    program = ctypes.create_string_buffer(_RETURN_NOTHING)
    filters = struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
    connection.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filters)
