"""Rows that pass undecoded, as PostgreSQL's binary COPY has them: what a source can give and a load can take.

Both are optional and neither side knows the other: `RawSource` (in `sources.base`), `RawLoad` and `RawWarehouse` (in
`warehouses.optional`) are found by `isinstance`. `load_path` decides whether the rows of a stream may go this way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol

from millstream_pipelines.batch import Position
from millstream_pipelines.schema import Schema

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # signature, flags, length of the extension
TRAILER = b"\xff\xff"


class SinkClosedError(Exception):
    """The side that takes the rows has ended; its own error says why."""


class RawStretch(Protocol):
    """Rows that follow each other, sent by one COPY."""

    position: Position | None
    """Where reading goes on behind these rows; None where there is no such place."""

    def copy_to(self, write: Callable[[bytes], None], pace: Callable[[int], None] | None) -> int:
        """Hand every row to `write`, in pieces of whole rows without header or trailer; return how many there were.

        Blocks; `cancel` of its reading ends it from another thread. `pace` is told how many rows are about to go and
        may wait. What `write` raises comes through; errors of the source are the engine's.
        """
        ...


class RawReading(Protocol):
    """One stream about to be read undecoded."""

    schema: Schema
    """The SQL type whose binary form each column has, exactly; `nullable` as the source's catalog has it."""

    def stretches(self) -> Generator[RawStretch]:
        """Yield the stretches in order; each must be copied before the next one is asked for."""
        ...

    def cancel(self) -> None:
        """End the COPY that another thread is in. Nothing to do where there is none."""
        ...
