"""Rows that pass undecoded, as PostgreSQL's binary COPY has them: what a source can give and a load can take.

Both are optional: a source, a warehouse and its load that have these methods are found by `isinstance`, and neither
side knows the other. `load_path` decides whether the rows of a stream may go this way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol, runtime_checkable

from millstream_pipelines.batch import Position
from millstream_pipelines.schema import Schema
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.warehouses.base import LoadSpec, StreamLoad

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


@runtime_checkable
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


@runtime_checkable
class RawSource(Protocol):
    """A source that can give rows undecoded."""

    def raw(self, request: ReadRequest) -> RawReading | str:
        """Return the reading, or why this request must be decoded. Reads no rows yet."""
        ...


@runtime_checkable
class RawLoad(StreamLoad, Protocol):
    """A load that can take rows undecoded, in the columns that `shape` returned.

    `rollback` also ends what `open_raw` began, while another thread still writes.
    """

    def open_raw(self) -> Callable[[bytes], None]:
        """Open the transaction where it is not, and return what takes pieces of whole rows, from any one thread.

        It blocks while the server is behind, and raises SinkClosedError once the server has refused something.
        """
        ...

    def close_raw(self, rows: int, size_bytes: int) -> None:
        """End the rows that `open_raw` began. `rows`: how many the source says it sent; they count as read.

        Raises what the server refused.
        """
        ...


@runtime_checkable
class RawWarehouse(Protocol):
    """A warehouse whose loads are `RawLoad`s."""

    def fitted(self, spec: LoadSpec, schema: Schema) -> Schema:
        """Return what `StreamLoad.shape` would, and change nothing."""
        ...

    def explain_raw(self, spec: LoadSpec, schema: Schema) -> list[str]:
        """See `Warehouse.explain_load`, for rows that come undecoded."""
        ...
