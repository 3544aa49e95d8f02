"""Cursors: which types can be one, how they are compared, and how a position spells a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from millstream_pipelines.batch import Position
from millstream_pipelines.errors import ConfigurationError, unknown_value
from millstream_pipelines.sources._postgres.catalog import Relation
from millstream_pipelines.sources._postgres.connection import identifier, literal
from millstream_pipelines.sources.base import Range, ReadRequest

Kind = Literal["number", "text", "timestamptz", "timestamp", "date"]
_NUMBERS = ("smallint", "integer", "bigint", "numeric")


@dataclass(frozen=True)
class Cursor:
    """The cursor of one read."""

    column: str
    type: str
    kind: Kind
    nullable: bool
    unique: bool
    lag: timedelta | None = None

    @property
    def sql(self) -> str:
        """The expression that is compared and ordered. Text goes byte by byte: that order has no equal twins."""
        return f'{identifier(self.column)} COLLATE "C"' if self.kind == "text" else identifier(self.column)

    def value(self, text: str) -> str:
        """Return a value of the cursor as SQL."""
        return f"{literal(text)}::{self.type}"

    def behind(self, position: Position | None, owner: str) -> str | None:
        """Return the condition for rows behind a position, None at the start. `lag` goes back in time."""
        if position is None:
            return None
        value = self.value(reached(position, self.column, owner))
        require_kind(self, position, owner)
        if self.lag is not None:
            value = f"({value} - interval '{self.lag.total_seconds():.6f} seconds')"
        return f"{self.sql} > {value}"

    def within(self, stretch: Range) -> str:
        """Return the condition for the rows of a half-open stretch."""
        start, end = (
            str(int(text))
            if self.kind == "number"
            else self.value(text)  # a bound may be larger than the column's type
            for text in (stretch.start, stretch.end)
        )
        return f"{self.sql} >= {start} AND {self.sql} < {end}"

    def position(self, value: Any) -> Position:
        """Return the position behind an Arrow scalar of this cursor."""
        import pyarrow as pa

        from millstream_pipelines import moments

        if pa.types.is_temporal(value.type):
            plain = moments.spelled(pa.array([value]))[0].as_py()
        else:
            plain = value.as_py() if pa.types.is_integer(value.type) else value.cast(pa.string()).as_py()
        return {"field": self.column, "cursor": plain, "kind": self.kind}

    @property
    def tomorrow(self) -> str | None:
        """SQL for the first value that lies ahead of any clock, of a cursor of time: more than a day from now.

        A day, since a `timestamp` or `date` may be that of any time zone.
        """
        utc = "(clock_timestamp() AT TIME ZONE 'UTC')"
        limits = {
            "timestamptz": "(clock_timestamp() + interval '1 day')",
            "timestamp": f"({utc} + interval '1 day')",
            "date": f"({utc}::date + 2)",
        }
        return limits.get(self.kind)

    def complete(self, values: Any) -> int:
        """Return how many leading values of an ordered array are complete: equal ones may follow the last."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.unique or not len(values):
            return len(values)
        if self.type.startswith("numeric") and pa.types.is_string(values.type):
            return _complete_numbers(values)
        same = pc.sum(pc.equal(values, values[-1])).as_py()
        return len(values) - int(same)


def reached(position: Position, column: str, owner: str) -> str:
    """Return the cursor value of a position; ConfigurationError when it belongs to another cursor."""
    if position.get("field", column) != column or "cursor" not in position:
        raise ConfigurationError(
            f"{owner}: the committed position {position} belongs to another cursor than '{column}'; "
            "run once with fullRefresh"
        )
    return str(position["cursor"])


def require_kind(cursor: Cursor, position: Position, owner: str) -> None:
    """Raise ConfigurationError when the column's type has changed under the cursor: its values compare otherwise."""
    before = position.get("kind", cursor.kind)
    if before != cursor.kind:
        raise ConfigurationError(
            f"{owner}: cursor '{cursor.column}' was a {before} when its position {position['cursor']!r} was committed, "
            f"and is a {cursor.kind} ({cursor.type}) now; values of the two do not compare. Run once with fullRefresh"
        )


def _complete_numbers(values: Any) -> int:
    """1.0 and 1.00 are one value to the server and two texts to Arrow."""
    from decimal import Decimal

    last, count = Decimal(values[-1].as_py()), len(values)
    while count and Decimal(values[count - 1].as_py()) == last:
        count -= 1
    return count


def cursor_of(request: ReadRequest, relation: Relation, owner: str) -> Cursor:
    """Return the cursor that a request asks for; ConfigurationError where the column cannot be one."""
    where = f"{owner}: stream '{relation.name}'"
    if not request.cursor_field:
        raise ConfigurationError(f"{where}: mode incremental needs cursor.field; columns: {relation.schema.names}")
    column = relation.schema.get(request.cursor_field)
    if column is None:
        raise unknown_value(where, "cursor.field", request.cursor_field, relation.schema.names)
    base = column.type.split("(")[0]
    kind: Kind
    if base in _NUMBERS:
        kind = "number"
    elif base in ("text", "character varying"):
        kind = "text"
    elif base in ("timestamptz", "timestamp", "date"):
        kind = base  # type: ignore[assignment]
    else:
        raise ConfigurationError(
            f"{where}: column '{column.name}' of type {column.type} cannot be a cursor; accepted: smallint, integer, "
            "bigint, numeric, text, date, timestamp, timestamptz"
        )
    if request.lag and kind in ("number", "text"):
        raise ConfigurationError(
            f"{where}: cursor.lag is a duration, and cursor '{column.name}' is {column.type}; leave it out"
        )
    return Cursor(column.name, column.type, kind, column.nullable, column.name in relation.unique, request.lag or None)


__all__ = ["Cursor", "cursor_of", "reached"]
