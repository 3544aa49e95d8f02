"""A file that lets its reader a few blocks ahead. pyarrow's csv reader has a thread that would take 32 of them."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_AHEAD = 3
# Of someone who waits for rows: a block that holds none gives none. Shorter, and a busy machine would look like that.
_PATIENCE_S = 0.3


class ReadAhead(io.RawIOBase):
    """`file` for a reader in another thread, held back while `_AHEAD` blocks have given nothing yet."""

    def __init__(self, file: io.RawIOBase) -> None:
        super().__init__()
        self._file = file
        self._changed = threading.Condition()
        self._ahead = 0
        self._wanted = self._free = False

    def readable(self) -> bool:
        return True

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Take what one block holds within this, and wait for it if need be."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._wanted = False
                self._ahead = max(self._ahead - 1, 0)
                self._changed.notify_all()

    def free(self) -> None:
        """Hold nobody back any more: the reader is about to be closed."""
        with self._changed:
            self._free = True
            self._changed.notify_all()

    def read(self, size: int | None = -1) -> bytes:
        with self._changed:
            while self._ahead >= _AHEAD and not self._free:
                if not self._changed.wait(_PATIENCE_S if self._wanted else None) and self._wanted:
                    break
            else:
                self._ahead += 1
        return self._file.read(-1 if size is None else size) or b""

    def readinto(self, buffer: Any) -> int:
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


__all__ = ["ReadAhead"]
