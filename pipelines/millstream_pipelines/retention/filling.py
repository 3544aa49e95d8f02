"""A restored table filled over two connections at once, while nobody uses it: one COPY keeps one core busy, no more.

Each commits what it has loaded. So a table that is being filled carries the mark of `unfinished` from its first moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pyarrow as pa

from millstream_pipelines.retention.columns import ArchivedColumn
from millstream_pipelines.retention.ddl import session
from millstream_pipelines.retention.restored_rows import copied_in
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig

_AT_ONCE = 2


class _Shared:
    """An iterator that several threads draw from; after a failure in one of them it ends for all."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches, self._lock, self._is_over = batches, threading.Lock(), False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        while True:
            with self._lock:
                batch = None if self._is_over else next(self._batches, None)
            if batch is None:
                return
            yield batch

    def end(self) -> None:
        """Give nobody any more."""
        self._is_over = True


def filled(
    config: PostgresConfig,
    owner: str,
    target: str,
    columns: Sequence[ArchivedColumn],
    batches: Iterator[pa.RecordBatch],
) -> None:
    """Fill the (quoted) table, which is committed and has no indexes. What fails leaves some of the rows in it."""
    shared = _Shared(batches)

    def fill() -> None:
        try:
            with closing(session(config, owner)) as connection:
                copied_in(connection, target, columns, shared)
                connection.commit()
        except BaseException:
            shared.end()
            raise

    with ThreadPoolExecutor(_AT_ONCE, "millstream-restore") as pool:
        done = [pool.submit(fill) for _ in range(_AT_ONCE)]
    for item in done:
        item.result()


__all__ = ["filled"]
