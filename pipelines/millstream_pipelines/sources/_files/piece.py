"""Piece: what a format reader yields; Skip: what of a file an earlier run has committed; bounds of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from millstream_pipelines.batch import MAX_BATCH_BYTES, Reject


@dataclass(frozen=True)
class Piece:
    """Some rows of a file, in its order, and rows it could not parse, in theirs."""

    data: pa.RecordBatch
    rejects: list[Reject] = field(default_factory=list)


@dataclass
class Skip:
    """Rows to leave out at a file's start. Parsed rows and each kind of refused row are counted apart, since only
    the order within a kind is the same at every reading."""

    rows: int = 0
    rejects: Counter[str] = field(default_factory=Counter)

    def applied(self, piece: Piece) -> Piece:
        """Return what is left of a piece, and remember what was left out."""
        taken = min(self.rows, piece.data.num_rows)
        self.rows -= taken
        kept = []
        for reject in piece.rejects:
            if self.rejects[reject.rule] > 0:
                self.rejects[reject.rule] -= 1
            else:
                kept.append(reject)
        return Piece(piece.data.slice(taken), kept)


def bounded(piece: Piece, max_rows: int) -> Iterator[Piece]:
    """Yield a piece in slices of at most `max_rows` rows and MAX_BATCH_BYTES; rejects go with the first."""
    data, rejects = piece.data, piece.rejects
    if data.num_rows == 0 and rejects:
        yield piece
    for first in range(0, data.num_rows, max_rows):
        for part in _halved(data.slice(first, max_rows)):
            yield Piece(part, rejects)
            rejects = []


def _halved(data: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if data.nbytes <= MAX_BATCH_BYTES or data.num_rows <= 1:
        yield data
        return
    middle = data.num_rows // 2
    yield from _halved(data.slice(0, middle))
    yield from _halved(data.slice(middle))
