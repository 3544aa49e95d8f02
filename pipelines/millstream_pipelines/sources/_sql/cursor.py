"""Cursors: which types can be one, how a position spells a value, and where a batch may be cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from millstream_pipelines.batch import Position
from millstream_pipelines.errors import ConfigurationError, DataError, unknown_value
from millstream_pipelines.sources._sql.relations import Relation
from millstream_pipelines.sources.base import ReadRequest

_WHOLE = ("smallint", "integer", "bigint", "numeric(20,0)")
_TIMES = ("timestamp", "timestamptz", "date")
Row = Sequence[Any]


@dataclass(frozen=True)
class Cursor:
    """The cursor of one read; `native` is false where the database keeps times as text (SQLite)."""

    column: str
    type: str
    lag: timedelta | None
    native: bool
    owner: str

    def parameter(self, value: str | int, where: str) -> Any:
        """Return a value as the driver binds it. Raises ConfigurationError when it is none of the cursor's type."""
        try:
            if self.type in _WHOLE:
                return int(value)
            if self.type.startswith("numeric"):
                return Decimal(str(value))
            parsed: Any = date.fromisoformat(str(value)) if self.type == "date" else datetime.fromisoformat(str(value))
        except (ValueError, ArithmeticError) as error:
            raise ConfigurationError(
                f"{self.owner}: {where}: {value!r} is no {self.type}, the type of cursor '{self.column}'"
            ) from error
        return parsed if self.native else str(value)

    def edge(self, value: str, where: str) -> Any:
        """Return the bound of a stretch. Where times are text, only a day's begin lies between any two spellings."""
        given = self.parameter(value, where)
        if self.native or self.type not in _TIMES:
            return given
        moment = datetime.fromisoformat(value)
        if moment.time() != time() or moment.utcoffset():
            raise ConfigurationError(
                f"{self.owner}: {where}: {value} is not the begin of a day, and this database keeps the times of "
                f"cursor '{self.column}' as text, which cannot be cut there; use a window and an interval of whole days"
            )
        return moment.date().isoformat()

    def behind(self, position: Position | None) -> Any:
        """Return the value a read goes on behind, None at the start; `lag` goes back in time."""
        if position is None:
            return None
        if position.get("field", self.column) != self.column or "cursor" not in position:
            raise ConfigurationError(
                f"{self.owner}: the committed position {position} belongs to another cursor than '{self.column}'; "
                "run once with fullRefresh"
            )
        if self.lag is None:
            return self.parameter(position["cursor"], "position")
        back = datetime.fromisoformat(str(position["cursor"])) - self.lag
        if self.type == "date":
            return back.date() if self.native else back.date().isoformat()
        return back if self.native else back.isoformat(" ")

    def tomorrow(self, now: datetime) -> Any:
        """Return the first value that lies ahead of any clock, of a cursor of time: more than a day from now, or None.

        A day, since a time without a zone may be that of any. Where times are text, only a day's begin is comparable.
        """
        if self.type not in _TIMES:
            return None
        day = (now + timedelta(days=2)).date()
        if not self.native:
            return day.isoformat()
        if self.type == "date":
            return day
        moment = now + timedelta(days=1)
        return moment if self.type == "timestamptz" else moment.replace(tzinfo=None)

    def position(self, value: Any) -> Position:
        """Return the position behind a value as the driver returned it."""
        if isinstance(value, (int, str)):
            return {"field": self.column, "cursor": value}
        return {"field": self.column, "cursor": value.isoformat(" ") if isinstance(value, datetime) else str(value)}

    def ahead(self, count: int) -> str:
        """Return the doubt about values ahead of the clock."""
        return (
            f"{self.owner}: {count} rows have a value more than a day ahead of the clock in cursor '{self.column}'; "
            "they are not read before that time has come, so that they hide no other row. Correct them at the source"
        )

    def went_back(self, largest: Any, position: Position) -> str:
        """Return the doubt about a table whose largest value is less than what has been read."""
        now = f"is {largest} now" if largest is not None else "is none now: the table is empty"
        return (
            f"{self.owner}: the largest value of cursor '{self.column}' {now}, and {position['cursor']} has been read. "
            "Were its newest rows deleted, all is well; was it restored from an older copy or filled anew, then rows "
            "with values up to that one are never read: run once with fullRefresh"
        )

    def refuse_text(self, value: Any) -> None:
        """Raise DataError for a value that the database orders in another way than its type says."""
        expected: tuple[type, ...] = (int,) if self.type in _WHOLE else (int, Decimal, float, date)
        if not self.native and self.type in _TIMES:
            expected = (str,)
        if isinstance(value, bool) or not isinstance(value, expected):
            raise DataError(
                f"{self.owner}: cursor '{self.column}' ({self.type}) holds {value!r:.80}, a {type(value).__name__}, "
                "whose place in the order is not that of the others; mend the row or choose another cursor",
                reason="CursorOutOfOrder",
            )


def cursor_of(request: ReadRequest, relation: Relation, dialect: str, owner: str) -> Cursor:
    """Return the cursor of a request. Raises ConfigurationError that says which columns can be one."""
    owner = f"{owner}: stream '{relation.name}'"
    fit = [c.name for c in relation.schema if c.type in (*_WHOLE, *_TIMES) or c.type.startswith("numeric(")]
    if request.cursor_field is None:
        raise ConfigurationError(f"{owner}: mode incremental needs `cursor.field`; columns that can be one: {fit}")
    column = relation.schema.get(request.cursor_field)
    if column is None:
        raise unknown_value(owner, "cursor", request.cursor_field, relation.schema.names)
    if column.name not in fit:
        raise ConfigurationError(
            f"{owner}: cursor '{column.name}' is {column.type}; a cursor is a whole number, a fixed numeric, a date or "
            f"a time: {', '.join(fit) or 'this stream has none'}"
        )
    if request.lag is not None and column.type not in _TIMES:
        raise ConfigurationError(f"{owner}: cursor.lag needs a cursor of time; '{column.name}' is {column.type}")
    return Cursor(column.name, column.type, request.lag, dialect != "sqlite", owner)


def cut(pages: Iterator[list[Row]], place: int) -> Iterator[tuple[list[Row], bool]]:
    """Yield pages of ordered rows with True where a read may go on behind the last row.

    Rows of one cursor value stay on one side: the last value of a page may go on in the next one, so its rows are
    held back. A value that fills a whole page goes on without such a place.
    """
    held: list[Row] = []
    for page in pages:
        last = page[-1][place]
        complete = len(page)
        while complete and page[complete - 1][place] == last:
            complete -= 1
        if complete:
            yield held + page[:complete], True
            held = page[complete:]
        elif held and held[0][place] != last:
            yield held, True
            held = page
        else:
            if held:
                yield held, False
            held = page
    if held:
        yield held, True


__all__ = ["Cursor", "cursor_of", "cut"]
