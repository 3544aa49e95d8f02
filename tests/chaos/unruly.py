"""A source that breaks off in mid-stream, or between describing and reading, and that has rows nobody can parse.

Its rows are the first ones of `manifest.source_rows`, so that the expectation is the same SQL as for a table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import BaseModel

from millstream_pipelines.batch import Batch, Reject
from millstream_pipelines.errors import RetriableError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.sources.base import ReadRequest, StreamInfo

_COLUMNS = Schema(
    (Column("id", "bigint"), Column("grp", "bigint"), Column("name", "text"), Column("code", "text"),
     Column("amount", "bigint"), Column("note", "text"))
)  # fmt: skip


class UnrulyConfig(BaseModel):
    """How many rows there are and where reading ends. `dirty`: some break a check, a cast, or cannot be parsed."""

    rows: int
    groups: int
    batch_rows: int
    dirty: bool = False
    fails_after_rows: int | None = None
    fails_as: Literal["retriable", "unforeseen"] = "retriable"


class UnrulySource:
    """See `Source`."""

    name: ClassVar[str] = "unruly"
    Config: ClassVar[type[BaseModel]] = UnrulyConfig

    def __init__(self, config: UnrulyConfig, owner: str) -> None:
        self._config, self._owner = config, owner

    def streams(self) -> list[StreamInfo]:
        """Return the one stream."""
        return [self.describe("public.source")]

    def describe(self, stream: str, columns: tuple[str, ...] = ()) -> StreamInfo:
        """Return its columns."""
        return StreamInfo(stream, _COLUMNS)

    def read(self, request: ReadRequest) -> Iterator[Batch]:
        """Yield the rows behind the position, then break off where the configuration says so."""
        given = self._config
        start = int(request.position["id"]) if request.position and request.mode == "incremental" else 0
        for first in range(start, given.rows, given.batch_rows):
            if given.fails_after_rows is not None and first - start >= given.fails_after_rows:
                if given.fails_as == "unforeseen":
                    raise ValueError("the unruly source broke off")
                raise RetriableError(f"{self._owner}: the unruly source broke off")
            ids = range(first + 1, min(first + given.batch_rows, given.rows) + 1)
            yield self._batch(ids)

    def _batch(self, ids: range) -> Batch:
        dirty = self._config.dirty
        lost = [number for number in ids if dirty and number % 83 == 7]
        rows = [_row(number, self._config.groups, dirty) for number in ids if number not in lost]
        data = pa.RecordBatch.from_pylist(rows, schema=_COLUMNS.arrow())
        return Batch(data, {"id": ids[-1]}, [Reject("malformed_row", "no row", {"_raw": str(n)}) for n in lost])

    def guarantee(self, request: ReadRequest) -> tuple[Literal["exact", "repeats"], str]:
        """Return exact: rows are numbered."""
        return "exact", "positions are row numbers"

    def close(self) -> None:
        """Hold nothing, release nothing."""


def _row(number: int, groups: int, dirty: bool) -> dict[str, object]:
    return {
        "id": number,
        "grp": number * 7919 % groups,
        "name": hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest(),
        "code": "n/a" if dirty and number % 71 == 3 else str(number * 3),
        "amount": -1 if dirty and number % 59 == 5 else number % 997,
        "note": None if number % 5 == 0 else f"note {number}",
    }
