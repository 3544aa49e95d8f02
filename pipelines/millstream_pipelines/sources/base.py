"""The protocol of a source: describe streams, read batches with the position that follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from millstream_pipelines.batch import Batch, Position
from millstream_pipelines.raw_copy import RawReading
from millstream_pipelines.schema import Schema

if TYPE_CHECKING:
    from millstream_pipelines.nested_layout import Layout


@dataclass(frozen=True)
class StreamInfo:
    """A stream as its source describes it. `schema` is what batches will hold, at least."""

    name: str
    schema: Schema


@dataclass(frozen=True)
class Range:
    """A half-open stretch of the cursor, `start` <= cursor < `end`, in the cursor type's spelling."""

    start: str
    end: str


@dataclass(frozen=True)
class Slice:
    """One of `count` disjoint slices that together are the whole stream; `index` counts from 0.

    Each is read by a process of its own, at a time of its own: a row that stays must be in exactly one of them.
    """

    index: int
    count: int
    fixed: Any = None
    """What `FixesSlices.fix_slices` has returned for this run; the same for all slices."""


@dataclass(frozen=True)
class ReadRequest:
    """What to read. `position` is the last committed one, None for a first read or mode full."""

    stream: str
    mode: Literal["full", "incremental"] = "full"
    cursor_field: str | None = None
    lag: timedelta | None = None
    position: Position | None = None
    columns: tuple[str, ...] = ()
    """Take only these columns; empty means all. A hint: a source may send more."""
    range: Range | None = None
    """Only this stretch of the cursor (a backfill), in mode incremental and without a position; only for a source with
    feature `range`. What a running transaction may still commit there is the forward load's, behind its position."""
    slice: Slice | None = None
    """Only this slice of the stream, in mode full; only for a source with feature `slice`."""
    layout: Callable[[], Layout | None] = lambda: None
    """Asked before each batch: types in which it may come, nested columns too, where its values are exactly that; its
    last column is then LINE. A hint: a source may always send text."""


Feature = Literal["range", "slice"]


def features_of(source: Source) -> frozenset[Feature]:
    """Return what a source can do beyond reading a stream from a position; most can do no more."""
    return getattr(source, "features", frozenset())


def why_incomplete(source: Source, request: ReadRequest) -> str | None:
    """Return why a read in mode full of this stream may lack rows that are there; None when it lacks none.

    Only after a complete read may a row be taken out of the target because its key was not in it.
    """
    tell = getattr(source, "why_incomplete", None)
    if tell is None:
        return "its source does not say that a full read is complete"
    reason: str | None = tell(request)
    return reason


@runtime_checkable
class FixesSlices(Protocol):
    """A source with feature `slice` whose slices must agree on something first, such as a list of files."""

    def fix_slices(self, request: ReadRequest) -> Any:
        """Return it as JSON. Asked at the first slice of a run; all others are given the same."""
        ...


@runtime_checkable
class CursorOrdered(Protocol):
    """A source whose incremental reads go on by the cursor alone: what lies at or below it never comes again."""

    def reached(self, position: Position, cursor_field: str) -> str:
        """Return the cursor's value that a position has passed, in the cursor type's spelling.

        Raises ConfigurationError when the position belongs to another cursor.
        """
        ...


def doubts_of(source: Source, request: ReadRequest) -> list[str]:
    """Return what looks wrong about the cursor of an incremental read that has just ended, for people."""
    tell = getattr(source, "doubts", None)
    found: list[str] = tell(request) if tell is not None else []
    return found


@runtime_checkable
class Source(Protocol):
    """A source. Constructed with its validated `Config` and the name of its DataSource (for messages).

    Errors: RetriableError when the other side is away, slow or limits us; ConfigurationError when the manifest or
    the Secret is wrong; DataError when the data as a whole cannot be read. A single bad row is a Reject in its batch.

    What else `read` can do is said by an optional class variable `features: frozenset[Feature]`: `range` (stretches of
    the cursor), `slice` (disjoint slices of one state). A request asks for neither where the source does not say so.

    An optional method `why_incomplete(request) -> str | None` says whether a read in mode full returns every row that
    is there: without it no row is taken out of a target for being absent. One `doubts(request) -> list[str]` is asked
    after an incremental read from `request.position`: values ahead of the clock, a cursor that went back.
    """

    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: BaseModel, owner: str) -> None: ...

    def streams(self) -> list[StreamInfo]:
        """Return what can be read, with columns and types; reaches the other side, reads a bounded sample."""
        ...

    def describe(self, stream: str, columns: tuple[str, ...] = ()) -> StreamInfo:
        """Return one stream; ConfigurationError lists the known ones when there is none of that name."""
        ...

    def read(self, request: ReadRequest) -> Iterator[Batch]:
        """Yield batches in order. In mode incremental yield only what follows `request.position`.

        A yielded position must make a later read go on exactly behind that batch. Yield None where there is no such
        place. An incremental read that finds nothing new yields nothing (or empty batches with a newer position).
        """
        ...

    def guarantee(self, request: ReadRequest) -> tuple[Literal["exact", "repeats"], str]:
        """Return whether a re-read from a position can repeat rows, and why; the loader derives the guarantee."""
        ...

    def close(self) -> None:
        """Release connections; called once, also after an error."""
        ...


@runtime_checkable
class CancellableSource(Protocol):
    """A source that can be told to stop while it waits for the other side."""

    def cancel(self) -> None:
        """Make the reads that other threads are in fail now. Called when their rows are not wanted any more."""
        ...


@runtime_checkable
class RawSource(Protocol):
    """A source that can give rows undecoded."""

    def raw(self, request: ReadRequest) -> RawReading | str:
        """Return the reading, or why this request must be decoded. Reads no rows yet."""
        ...
