"""Text block by block: whatever the cuts, the same as decoded in one piece, and undecodable bytes are marked."""

from __future__ import annotations

import io
import random

import pytest

from millstream_pipelines.sources._files.text import Utf8Blocks, unmarked
from millstream_pipelines.sources._files.unpack import Part

# One character of each length, bytes that begin none, marks as a file may hold them, and halves of characters.
_PIECES = [b"a", b"\n", b"\r", "é".encode(), "東".encode(), "𝄞".encode(), "\ufdd0\ufde1".encode(), "\ufeff".encode()]
_DAMAGED = [b"\xff", b"\x80", b"\xc3", b"\xe6\x9d", b"\xf0\x9d\x84", b"\xed\xa0\x80", b"\xc0\xaf"]


def read(raw: bytes, size: int, step: int) -> tuple[list[bytes], Utf8Blocks]:
    class Slow(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            return super().read(min(count or 0, step))

    blocks = Utf8Blocks(Part("a.csv", "a.csv", "csv", Slow(raw)), "utf-8", '"')
    return list(iter(lambda: blocks.read(size), b"")), blocks


def wanted(raw: bytes) -> bytes:
    text = raw.decode("utf-8-sig", "millstream-mark")
    return (text if not text or text.endswith(("\n", "\r")) else f"{text}\n").encode()


@pytest.mark.parametrize("damaged", [False, True], ids=["sound", "damaged"])
def test_the_cuts_change_nothing(damaged: bool) -> None:
    choose = random.Random(7)
    pieces = [*_PIECES, *(_DAMAGED if damaged else [])]
    for _ in range(400):
        raw = b"".join(choose.choices(pieces, k=choose.randrange(200)))
        size = choose.choice([1, 2, 3, 5, 64, 65, 400])
        chunks, _ = read(raw, size, choose.choice([1, 7, 1000]))
        assert b"".join(chunks) == wanted(raw), raw
        assert all(len(chunk) == size for chunk in chunks[:-1]), raw


def test_sound_text_is_not_tainted_and_its_quotes_are_counted() -> None:
    raw = '"Zürich","東京"\n'.encode() * 500
    chunks, blocks = read(raw, 1000, 1000)
    assert b"".join(chunks) == raw
    assert (blocks.tainted, blocks.quotes) == (False, 2000)


def test_a_byte_that_is_no_text_taints_what_follows_sound_blocks() -> None:
    chunks, blocks = read("é\n".encode() * 500 + b"caf\xe9\n", 100, 1000)
    assert blocks.tainted
    assert unmarked(b"".join(chunks).decode()).endswith("é\ncaf\\xe9\n")
