"""How far a csv file is read ahead of the rows that are taken from it."""

from __future__ import annotations

import io
from contextlib import closing

from millstream_pipelines.sources._files.config import FileStream
from millstream_pipelines.sources._files.csv import CsvReader
from millstream_pipelines.sources._files.unpack import Part

BLOCK = 4096
ROW = b"1,abcdefg\n"
FILE_BYTES = 100 * BLOCK


class Counted(io.BytesIO):
    """A file that knows how much of it was read."""

    seen = 0

    def read(self, size: int | None = -1) -> bytes:
        chunk = super().read(size)
        self.seen += len(chunk)
        return chunk


def reader(content: bytes) -> tuple[CsvReader, Counted]:
    file = Counted(content)
    return CsvReader(Part("a.csv", "a.csv", "csv", file), FileStream(name="a", glob="a.csv")), file


def test_only_a_few_blocks_wait_for_whoever_takes_rows() -> None:
    made, file = reader(b"a,b\n" + ROW * (FILE_BYTES // len(ROW)))
    with closing(made.pieces(BLOCK)) as pieces:
        for number in range(1, 61):
            next(pieces)
            assert file.seen <= (number + 8) * BLOCK
    assert file.seen < FILE_BYTES


def test_blocks_without_rows_end() -> None:
    made, _ = reader(b"a,b\n" + b"\n" * (5 * BLOCK) + ROW + b"\n" * (5 * BLOCK) + ROW)
    with closing(made.pieces(BLOCK)) as pieces:
        assert sum(piece.data.num_rows for piece in pieces) == 2


def test_blocks_of_malformed_rows_end() -> None:
    made, _ = reader(b"a,b\n" + ROW + b"1,2,3\n" * (5 * BLOCK // 6) + ROW)
    with closing(made.pieces(BLOCK)) as pieces:
        read = list(pieces)
    assert sum(piece.data.num_rows for piece in read) == 2
    assert sum(len(piece.rejects) for piece in read) == 5 * BLOCK // 6


def test_a_reader_that_is_given_up_ends() -> None:
    made, file = reader(b"a,b\n" + ROW * (FILE_BYTES // len(ROW)))
    with closing(made.pieces(BLOCK)) as pieces:
        next(pieces)
    assert file.seen < FILE_BYTES
