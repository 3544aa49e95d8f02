"""Text of any encoding as valid UTF-8, block by block; bytes that are no text stay findable.

Parsers stop at the first undecodable byte, so such a byte is replaced by two code points that Unicode reserves and no
text may contain (U+FDD0…U+FDEF, "noncharacters"). The rows that hold them are found vectorised, and only in files where
the decoder met any.
"""

from __future__ import annotations

import codecs
import io
import re
import struct
from typing import Any

import pyarrow as pa

from millstream_pipelines.sources._files.unpack import Part

BLOCK_BYTES = 2 * 1024 * 1024
"""Text per block: also the longest row that can be read."""

MARKS = "[\ufdd0-\ufdef]"
_MARK_BYTES = b"\xef\xb7"  # what all marks begin with in UTF-8
_PAIR = re.compile("([\ufdd0-\ufddf])([\ufde0-\ufdef])")


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(0xFDD0 + (byte >> 4)) + chr(0xFDE0 + (byte & 15)) for byte in bad), error.end


codecs.register_error("millstream-mark", _mark)


def unmarked(text: str) -> str:
    r"""Return text for people: marked bytes become `\xff`."""
    return _PAIR.sub(lambda pair: f"\\x{ord(pair[1]) - 0xFDD0:x}{ord(pair[2]) - 0xFDE0:x}", text)


class Utf8Blocks(io.RawIOBase):
    """A part as UTF-8 without byte order mark, ending in a line end. For readers that take bytes."""

    def __init__(self, part: Part, encoding: str, quote: str | None = None) -> None:
        super().__init__()
        self._part = part
        name = codecs.lookup(encoding).name
        self._is_utf8 = name == "utf-8"
        self._decoder = codecs.getincrementaldecoder("utf-8-sig" if name == "utf-8" else name)("millstream-mark")
        self._held = b""
        self._begun = self._ended = False
        self.tainted = False
        """Whether any byte so far was no text."""
        self.quotes = 0
        """Quote characters given out."""
        self._quote = (quote or "").encode()
        self.tail = b""
        """The last bytes given out."""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = BLOCK_BYTES if size is None or size < 0 else size
        # Exactly what was asked for, until the end: a reader takes a short answer for a block of its own, and one that
        # holds no line end (what a character cut in two left over) for a row longer than a block.
        while len(self._held) < wanted and not self._ended:
            block = self._block(wanted - len(self._held))
            self._held = self._held + block if self._held else block
        chunk, self._held = self._held[:wanted], self._held[wanted:]
        if chunk:
            self.quotes += chunk.count(self._quote) if self._quote else 0
            self.tail = (self.tail + chunk[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        return chunk

    def readinto(self, buffer: Any) -> int:
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def _block(self, size: int) -> bytes:
        """Return the next text, or b"" at the end."""
        while not self._ended:
            raw = self._part.read(max(size, _LEAST_BYTES))
            self._ended = not raw
            if raw and self._is_utf8 and self._begun:
                joined = self._decoder.getstate()[0] + raw  # it holds a character that was cut in two
                whole = _whole_characters(joined)
                if whole and _is_clean(whole):
                    self._decoder.setstate((joined[len(whole) :], 0))
                    return whole
            text = self._decoder.decode(raw, final=not raw)
            if not raw and (self._begun or text):
                end = (self._held or self.tail) + text.encode()
                text += "" if end.endswith((b"\n", b"\r")) else "\n"
            self._begun = self._begun or bool(text)
            if text:
                given = text.encode()
                self.tainted = self.tainted or (_MARK_BYTES in given and _PAIR.search(text) is not None)
                return given
        return b""


def _whole_characters(raw: bytes) -> bytes:
    """Return the bytes without a character at their end that is not all there."""
    for back in range(1, min(3, len(raw)) + 1):
        lead = raw[-back]
        if lead >= 0xC0:
            needed = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return raw[:-back] if needed > back else raw
        if lead < 0x80:
            break
    return raw


def _is_clean(raw: bytes) -> bool:
    """Return whether bytes are UTF-8 and hold no mark: Arrow looks at them 20 times faster than a decoder does."""
    if raw.isascii():
        return True
    if 0xEF in raw and _MARK_BYTES in raw:
        return False
    try:
        pa.StringArray.from_buffers(1, pa.py_buffer(struct.pack("=ii", 0, len(raw))), pa.py_buffer(raw)).validate(
            full=True
        )
    except pa.ArrowInvalid:
        return False
    return True


_LEAST_BYTES = 64  # of a part at a time: the few that a cut character leaves over are not worth a read
# Long enough for every last row that people look at; see `csv.never_closed`.
_TAIL_BYTES = 64 * 1024
