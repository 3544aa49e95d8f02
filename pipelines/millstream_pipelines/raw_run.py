"""Rows from a source's COPY into a load's COPY: one thread reads, one writes, this one waits and can be interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable

from millstream_api.stream import StreamSpec
from millstream_pipelines.failpoints import reached
from millstream_pipelines.load_path import chosen
from millstream_pipelines.raw_copy import RawReading, RawStretch, SinkClosedError
from millstream_pipelines.schema import Schema
from millstream_pipelines.sources.base import RawSource, ReadRequest, Source
from millstream_pipelines.warehouses.optional import RawLoad

_LOOK_S = 0.5  # how often the caller hears how far it is


class _Reader(threading.Thread):
    """The thread that reads; `rows` and `error` are looked at when it has ended."""

    def __init__(self, stretch: RawStretch, take: Callable[[bytes], None], pace: Callable[[int], None] | None) -> None:
        super().__init__(name="millstream-raw-reader", daemon=True)
        self._stretch, self._take, self._pace = stretch, take, pace
        self.rows = self.size_bytes = 0
        self.error: BaseException | None = None
        self.ended = threading.Event()  # not `join`: a signal that interrupts it makes it forget the thread

    def run(self) -> None:
        """Copy the stretch."""
        try:
            self.rows = self._stretch.copy_to(self._write, self._pace)
            reached("source-read")
        except BaseException as error:
            self.error = error
        finally:
            self.ended.set()

    def _write(self, piece: bytes) -> None:
        self._take(piece)
        self.size_bytes += len(piece)


def offered(source: Source, request: ReadRequest) -> RawReading | str:
    """Return the rows of a request undecoded, or why its source cannot give them so."""
    return source.raw(request) if isinstance(source, RawSource) else "the source gives batches"


def undecoded(
    stream: StreamSpec, source: Source, request: ReadRequest, target: Schema, row_checks: int
) -> RawReading | None:
    """Return the rows of a request undecoded where they may pass so into a load with these target columns."""
    given = offered(source, request)
    path = chosen(stream, given, target, row_checks)
    return None if isinstance(given, str) or path.name != "raw" else given


def pass_on(
    reading: RawReading,
    stretch: RawStretch,
    load: RawLoad,
    pace: Callable[[int], None] | None,
    progress: Callable[[int], None],
) -> tuple[int, int]:
    """Copy one stretch into the load's open transaction; return the rows and bytes that passed.

    `progress` hears now and then how many bytes have passed. Raises the errors of either side; nothing of the
    transaction can be kept then.
    """
    reader = _Reader(stretch, load.open_raw(), pace)
    reader.start()
    try:
        while not reader.ended.wait(_LOOK_S):
            progress(reader.size_bytes)
    except BaseException:  # a signal: both sides are ended where they are
        reading.cancel()
        load.rollback()
        reader.ended.wait()
        raise
    if reader.error is not None and not isinstance(reader.error, SinkClosedError):
        raise reader.error
    load.close_raw(reader.rows, reader.size_bytes)
    return reader.rows, reader.size_bytes
