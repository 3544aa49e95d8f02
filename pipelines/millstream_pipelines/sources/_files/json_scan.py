"""Values of a JSON document one by one, from blocks of text: the decoder finds where each ends. No I/O of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

MAX_VALUE_CHARS = 64 * 1024 * 1024
"""The longest single record, and the longest value beside the record path: held in memory as a whole."""

_BLOCK_BYTES = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_MARGIN = 32
"""An error this close to the end of what was read may be a value cut in two; a literal or escape is shorter."""


class ScanError(ValueError):
    """The document is not JSON, or not of the shape that the record path says."""


class JsonScan:
    """A forward-only scan of one document, or of several documents one after another."""

    def __init__(self, decoder: json.JSONDecoder, read: Callable[[int], bytes]) -> None:
        self._decoder, self._read = decoder, read
        self._buffer = ""
        self._at = self._passed = 0
        self._ended = False

    def values(self, record_path: str | None) -> Iterator[tuple[Any, str]]:
        """Yield the records and their text: the elements of an array at the path, or the one value there."""
        steps = record_path.split(".") if record_path else []
        while self._peek():
            yield from self._below(steps, record_path)

    def _below(self, steps: list[str], path: str | None) -> Iterator[tuple[Any, str]]:
        if not steps:
            if self._peek() != "[":
                yield self._value()
                return
            for _ in self._items("[", "]"):
                yield self._value()
            return
        if self._peek() != "{":
            raise self._error(f"recordPath '{path}' expects an object with the key '{steps[0]}'")
        found = False
        for _ in self._items("{", "}"):
            key, _ = self._value()
            self._take(":")
            if key == steps[0] and not found:
                found = True
                yield from self._below(steps[1:], path)
            else:
                self._value()
        if not found:
            raise self._error(f"recordPath '{path}' finds no key '{steps[0]}'")

    def _items(self, opening: str, closing: str) -> Iterator[None]:
        """Yield once before each item of an array or object, which the caller takes."""
        self._take(opening)
        if self._peek() == closing:
            self._at += 1
            return
        while True:
            yield
            if self._peek() == closing:
                self._at += 1
                return
            self._take(",")

    def _peek(self) -> str:
        """Return the next character that is no space; "" at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def _take(self, character: str) -> None:
        seen = self._peek()
        if seen != character:
            raise self._error(f"'{character}' expected, {f'{seen!r} seen' if seen else 'the document ends'}")
        self._at += 1

    def _value(self) -> tuple[Any, str]:
        self._peek()
        wanted = _BLOCK_BYTES
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except RecursionError:
                raise self._error("nested too deep") from None
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - _MARGIN
                if not cut or not self._more(wanted):
                    raise self._error(f"{error.msg} (character {self._passed + error.pos})") from None
                wanted *= 2  # a value longer than a block is decoded anew each time: keep the number of times small
                continue
            except ValueError as error:
                raise self._error(str(error)) from None
            if end < len(self._buffer) or not self._more(wanted):
                text = self._buffer[self._at : end]
                self._at = end
                return value, text

    def _more(self, size: int = _BLOCK_BYTES) -> bool:
        """Read on; what was passed is dropped. Returns whether anything came."""
        self._passed += self._at
        self._buffer, self._at = self._buffer[self._at :], 0
        if len(self._buffer) > MAX_VALUE_CHARS:
            raise self._error(f"a value is longer than {MAX_VALUE_CHARS >> 20} Mi characters; set recordPath?")
        chunks = []
        while not self._ended and size > 0:
            chunk = self._read(size)
            self._ended = not chunk
            size -= len(chunk)
            chunks.append(chunk)
        came = self._joined(chunks)
        self._buffer += came
        return bool(came)

    def _joined(self, chunks: list[bytes]) -> str:
        """Decode; a character cut in two by a block's end is completed first."""
        raw = self._rest + b"".join(chunks)
        for missing in range(4):
            try:
                text = raw[: len(raw) - missing].decode()
            except UnicodeDecodeError:
                continue
            self._rest = raw[len(raw) - missing :]
            return text
        raise self._error("the text is not UTF-8")

    _rest = b""

    def _error(self, what: str) -> ScanError:
        return ScanError(f"the JSON document is malformed at character {self._passed + self._at}: {what}")
