"""COPY into a table in a thread of its own, fed piece by piece: who makes the pieces works while the server does.

While it runs nobody else may use the connection. The server is heard only where a COPY ends (the driver gives no
sooner sign of a refusal), so a long one is cut into several, each of some 100 MiB; the caller does not notice.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_pipelines.failpoints import reached
from millstream_pipelines.raw_copy import HEADER, TRAILER, SinkClosedError
from millstream_pipelines.warehouses.content_hash import Digest

_SPAN_BYTES = 128 * 1024 * 1024
_SPAN_S = 10.0
_READ_BYTES = 1024 * 1024  # each read needs the interpreter, for which it may have to wait
_AHEAD_BYTES = 4 * 1024 * 1024  # a server that is fed piece by piece would wait for each
_PATIENCE_S = (0.5, 5.0)  # before the statement is cancelled, before the socket is shut


class CopyIn:
    """Rows on their way into one table. `digest` hashes them, where there is one, without headers and trailers.

    Memory: the piece that is being sent, and pieces of some 4 MiB that wait.
    """

    def __init__(self, connection: Connection, statement: str, digest: Digest | None = None) -> None:
        self.rows = 0
        """How many the server took; known after `finish`."""
        self._connection, self._statement, self._digest = connection, statement, digest
        self._changed = threading.Condition()
        self._waiting: deque[bytes | memoryview] = deque()
        self._waiting_bytes = 0
        self._ended = self._aborted = self._done = False
        self._failure: BaseException | None = None
        self._unread = memoryview(b"")
        self._span: Iterator[bytes | memoryview] = iter(())
        threading.Thread(target=self._work, name="millstream-copy", daemon=True).start()

    # -- the feeding side ---------------------------------------------------------------------------------------

    def send(self, piece: bytes | memoryview) -> None:
        """Hand over whole rows; wait while the server is behind. SinkClosedError: `finish` says why."""
        with self._changed:
            while self._waiting_bytes >= _AHEAD_BYTES and not self._done and not self._aborted:
                self._changed.wait()
            if self._done or self._aborted:
                raise SinkClosedError
            self._waiting.append(piece)
            self._waiting_bytes += len(piece)
            self._changed.notify_all()

    def finish(self) -> int:
        """End the COPY and return how many rows the server took; a trigger may have dropped some.

        Raises what the server refused, or what went wrong in the thread.
        """
        self._end()
        self._wait()
        if self._failure is not None:
            raise self._failure
        return self.rows

    @property
    def is_done(self) -> bool:
        """Whether the thread has ended, so that others may use the connection."""
        return self._done

    def abort(self) -> None:
        """Give up: the thread ends, and with it the server's statement. Does not raise."""
        self._end(aborted=True)
        if not self._wait(_PATIENCE_S[0]):  # in a statement that waits, for a lock or for a slow trigger
            with contextlib.suppress(psycopg2.Error):
                self._connection.cancel()
            if not self._wait(_PATIENCE_S[1]):  # the server does not answer
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)
                self._wait()

    def _wait(self, seconds: float | None = None) -> bool:
        """Wait until the thread is done. Not `Thread.join`: a signal that interrupts it makes it forget the thread."""
        with self._changed:
            return self._changed.wait_for(lambda: self._done, seconds)

    def _end(self, aborted: bool = False) -> None:
        with self._changed:
            self._ended = True
            self._aborted = aborted
            self._changed.notify_all()

    # -- the thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (first := self._take()) is not None:
                self._span = self._pieces(first)
                with self._connection.cursor() as cursor:
                    cursor.copy_expert(self._statement, cast(Any, self), size=_READ_BYTES)  # it needs `read` only
                    self.rows += int(cursor.rowcount)
        except BaseException as error:
            # The driver tells an error of `read` as a cancelled COPY, which would look retriable.
            self._failure = self._failure or error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, b"" at the end of a COPY: the file that the driver reads."""
        try:
            if not self._unread:
                self._unread = memoryview(next(self._span, b""))
        except BaseException as error:
            self._failure = error
            raise
        head, self._unread = self._unread[:size], self._unread[size:]
        return bytes(head)

    def _pieces(self, first: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Yield one COPY: header, pieces, trailer."""
        yield HEADER
        piece: bytes | memoryview | None = first
        sent_bytes, until = 0, time.monotonic() + _SPAN_S
        while piece is not None:
            reached("in-copy")
            if self._digest is not None:
                self._digest.update(piece)
            yield piece
            sent_bytes += len(piece)
            if sent_bytes >= _SPAN_BYTES or time.monotonic() >= until:
                break
            piece = self._take()
        yield TRAILER

    def _take(self) -> bytes | memoryview | None:
        with self._changed:
            while not self._waiting and not self._ended:
                self._changed.wait()
            if self._aborted:
                raise SinkClosedError
            if not self._waiting:
                return None
            piece = self._waiting.popleft()
            self._waiting_bytes -= len(piece)
            self._changed.notify_all()
            return piece
