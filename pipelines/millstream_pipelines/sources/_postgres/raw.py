"""Rows as the server sends them: binary COPY, undecoded. In mode incremental in stretches of the cursor.

A stretch ends at a cursor value that some row has, looked up in the cursor's index before the rows are read: so the
position behind it is known without a look into a row, and a big first load commits on its way.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2

from millstream_pipelines.batch import MAX_BATCH_ROWS, Position
from millstream_pipelines.errors import DataError
from millstream_pipelines.raw_copy import HEADER, TRAILER
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.sources._postgres.connection import explained, hang_up, session_of, session_settings
from millstream_pipelines.sources._postgres.cursor import Cursor

if TYPE_CHECKING:
    from millstream_pipelines.sources._postgres.config import PostgresConfig

_PIECE_BYTES = 256 * 1024
_STRETCH_S = 10.0  # a stretch is made as long as takes about this time
_MOST_ROWS = 5_000_000 if MAX_BATCH_ROWS == 100_000 else MAX_BATCH_ROWS  # small batches ask for many commits
_GROWTH = 4

# Types of which each server sends and takes the same bytes. Arrays hold their element's OID, which is fixed for these.
# Not here: money (its unit is a setting of the server), xml (its declaration is rewritten), what names objects by OID
# (regclass, aclitem), and everything made by users or extensions.
_PORTABLE = re.compile(
    r'(smallint|integer|bigint|real|double precision|numeric|boolean|text|name|"char"|character|character varying|bytea'
    r"|date|time|timetz|timestamp|timestamptz|interval( \w+)*|uuid|json|jsonb|inet|cidr|macaddr|macaddr8"
    r"|bit|bit varying|oid|pg_lsn|tsvector|tsquery|point|line|lseg|box|path|polygon|circle"
    r"|(int4|int8|num|ts|tstz|date)(multi)?range)(\([\d,-]+\))?(\[\])?"
)
INDEXED = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
  WHERE i.indrelid = %(oid)s AND a.attname = %(column)s AND m.amname = 'btree' AND i.indisvalid AND i.indpred IS NULL)
"""


def is_portable(column: Column) -> bool:
    """Return whether any server sends and takes the same bytes for values of this column's type."""
    return _PORTABLE.fullmatch(column.type) is not None


@dataclass(frozen=True)
class Wanted:
    """What is read: `columns` are SQL expressions of exactly the schema's types."""

    columns: list[str]
    origin: str
    schema: Schema
    cursor: Cursor | None = None
    behind: str | None = None
    """Condition for rows behind the committed position."""
    horizon: Callable[[], str | None] = field(default=lambda: None)
    """Finds the condition up to which rows may be read; None when there are none. May wait."""


class RawRows:
    """See `RawReading`. One snapshot for all stretches; the thread that copies also closes."""

    def __init__(self, config: PostgresConfig, owner: str, stream: str, wanted: Wanted) -> None:
        self._config, self._owner, self._stream, self._wanted = config, owner, stream, wanted
        self._connection: Any = None
        self.schema = wanted.schema

    def stretches(self) -> Generator[RawCopy]:
        """See `RawReading.stretches`."""
        cursor = self._wanted.cursor
        try:
            if cursor is None:
                self._connect()
                yield RawCopy(self, "", None)
            else:
                yield from self._by(cursor)
        except psycopg2.Error as error:
            raise self.explained(error) from error
        finally:
            if self._connection is not None:
                self._connection.close()

    def _by(self, cursor: Cursor) -> Iterator[RawCopy]:
        horizon = self._wanted.horizon()
        if horizon is None:
            return
        self._connect()
        behind, rows = self._wanted.behind, MAX_BATCH_ROWS
        while True:
            where = " AND ".join(part for part in (behind, horizon) if part)
            end = self._end_of(cursor, where, rows)
            if end is None:
                return
            until = cursor.value(end)
            position = {"field": cursor.column, "cursor": int(end) if cursor.type in _INTEGERS else end}
            started = time.monotonic()
            yield RawCopy(self, f"WHERE {where} AND {cursor.sql} <= {until}", position)
            rows = following_rows(rows, time.monotonic() - started)
            behind = f"{cursor.sql} > {until}"

    def _end_of(self, cursor: Cursor, where: str, rows: int) -> str | None:
        """Return the cursor's value at that many rows, the largest there is where there are fewer."""
        from_where = f"FROM {self._wanted.origin} WHERE {where}"
        # Under a name of its own: ORDER BY would take the text for the column.
        spelled = f"SELECT {cursor.sql}::text AS millstream_end {from_where}"
        found = self._ask(f"{spelled} ORDER BY {cursor.sql} OFFSET {rows - 1} LIMIT 1")
        return found or self._ask(f"{spelled} ORDER BY {cursor.sql} DESC LIMIT 1")

    def _ask(self, sql: str) -> str | None:
        with self._connection.cursor() as asking:
            asking.execute(sql)
            row = asking.fetchone()
        return None if row is None else row[0]

    def _connect(self) -> None:
        self._connection = session_of(self._config, self._owner)
        self._connection.set_client_encoding("UTF8")  # `options` may have said otherwise
        self._connection.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)
        with self._connection.cursor() as cursor:
            cursor.execute("; ".join(session_settings(self._config)))

    def copy(self, tail: str, target: Any) -> int:
        """Run the COPY of one stretch into a file; return the rows the server says it sent."""
        query = f"SELECT {', '.join(self._wanted.columns)} FROM {self._wanted.origin} {tail}"
        try:
            with self._connection.cursor() as cursor:
                cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", target)
                return int(cursor.rowcount)
        except psycopg2.Error as error:
            raise self.explained(error) from error

    def explained(self, error: psycopg2.Error) -> Exception:
        """Return a driver's error as ours."""
        return explained(error, error.pgcode, self._config, self._owner, self._stream)

    def cancel(self) -> None:
        """See `RawReading.cancel`."""
        if self._connection is not None and not self._connection.closed:
            hang_up(self._connection)


class RawCopy:
    """See `RawStretch`."""

    def __init__(self, rows: RawRows, tail: str, position: Position | None) -> None:
        self._rows, self._tail = rows, tail
        self.position = position

    def copy_to(self, write: Callable[[bytes], None], pace: Callable[[int], None] | None) -> int:
        """See `RawStretch.copy_to`."""
        pieces = _Pieces(write)
        buffered = io.BufferedWriter(pieces, _PIECE_BYTES)
        sent = self._rows.copy(self._tail, buffered if pace is None else _Paced(buffered, pace))
        pieces.at_end = True
        buffered.flush()
        return sent


class _Pieces(io.RawIOBase):
    """Takes what the driver writes, without header and trailer.

    The driver writes row by row, and a BufferedWriter empties itself before what does not fit: pieces are whole rows.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._at_start = True
        self.at_end = False

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, piece: Any) -> int:
        """Take one piece."""
        size, data = len(piece), bytes(piece)
        if self._at_start:
            data = _without(data, data[: len(HEADER)], HEADER)
            self._at_start = False
        if self.at_end:
            data = _without(data[::-1], data[-len(TRAILER) :], TRAILER)[::-1]
        if data:
            self._write(data)
        return size


def _without(data: bytes, found: bytes, expected: bytes) -> bytes:
    if found != expected:
        raise DataError(f"a binary COPY has {found!r} where {expected!r} belongs", reason="UnreadableData")
    return data[len(expected) :]


class _Paced:
    """Counts rows on their way, and lets `pace` wait."""

    def __init__(self, target: io.BufferedIOBase, pace: Callable[[int], None]) -> None:
        self._target, self._pace = target, pace

    def write(self, row: bytes) -> int:
        """Take one row."""
        self._pace(1)
        return self._target.write(row)


_INTEGERS = ("smallint", "integer", "bigint")


def following_rows(rows: int, seconds: float) -> int:
    """Return how many rows the next stretch should have, after one of `rows` took so long."""
    wished = rows * _STRETCH_S / max(seconds, 0.001)
    return int(min(max(wished, MAX_BATCH_ROWS), rows * _GROWTH, _MOST_ROWS))


__all__ = ["INDEXED", "RawRows", "Wanted", "following_rows", "is_portable"]
