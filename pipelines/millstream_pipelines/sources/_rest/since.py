"""The cursor of an incremental read: from records to the largest value, from that to the next read's parameter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from millstream_pipelines.batch import Position
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.sources._rest.body import at_path
from millstream_pipelines.sources._rest.config import Incremental

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Value = datetime | int | Decimal | str


class Since:
    """Follows the cursor over the pages of one read."""

    def __init__(self, how: Incremental, where: str, position: Position | None, lag: timedelta | None) -> None:
        self._how, self._where, self._lag = how, where, lag
        self._from: Value | None = self._stored(position) if position else None
        self._largest: Value | None = None  # of this read: an API may well start before the position
        self._complete: Value | None = None
        self._without = self._ahead = 0
        self._tomorrow = datetime.now(UTC) + timedelta(days=1)
        if lag and how.format == "raw":
            raise ConfigurationError(f"{where}: cursor.lag is a duration, and the cursor's format is raw; leave it out")

    def params(self) -> dict[str, Any]:
        """Return the parameter that asks for what is new; empty when everything is wanted."""
        if self._from is None:
            return {} if self._how.initial is None else {self._how.param: self._how.initial}
        value = self._from
        if self._lag and isinstance(value, datetime):
            value = value - self._lag
        return {self._how.param: self._sent(value)}

    def follow(self, records: list[Any]) -> None:
        """Take in the records of a page; DataError when `ordered` is promised and they are not."""
        for record in records:
            seen = at_path(record, self._how.field)
            if seen is None:
                self._without += 1
                continue
            value = self._parsed(seen)
            if self._is_ahead(value):
                self._ahead += 1
                continue
            if self._largest is None or self._less(self._largest, value):
                self._complete, self._largest = self._largest, value
            elif self._how.ordered and self._less(value, self._largest):
                raise DataError(
                    f"{self._where}: '{self._how.field}' is {seen!r:.60} after {self._largest}: the records are not in "
                    "order; set incremental.ordered: false and run once with fullRefresh",
                    reason="CursorOutOfOrder",
                )

    def position(self, *, at_end: bool) -> Position | None:
        """Return where to go on: behind everything at the end, and before it behind the last complete value.

        A value may go on on the next page; whether the API takes `since` as `>` or `>=` is then no matter.
        """
        value = self._largest if at_end else self._complete if self._how.ordered else None
        if value is None:
            return None if self._from is None or not at_end else {"cursor": self._kept(self._from)}
        if self._from is not None and self._less(value, self._from):
            value = self._from
        return {"cursor": self._kept(value)}

    def doubts(self) -> list[str]:
        """Return what looked wrong about the cursor in this read."""
        found = []
        if self._is_ahead(self._from):
            found.append(
                f"{self._where}: the position {self._from} is more than a day ahead of the clock, so the API may tell "
                "of nothing new before that; run once with fullRefresh"
            )
        if self._ahead:
            found.append(
                f"{self._where}: {self._ahead} records have a value more than a day ahead of the clock in "
                f"'{self._how.field}'; they are loaded, and do not move the position, so that they hide no other record"
            )
        if self._without:
            found.append(
                f"{self._where}: {self._without} records have no '{self._how.field}'; they are loaded when the API "
                "lists them, and do not move the position"
            )
        return found

    def _is_ahead(self, value: Value | None) -> bool:
        return isinstance(value, datetime) and value > self._tomorrow

    def _less(self, one: Value, other: Value) -> bool:
        try:
            return bool(one < other)  # type: ignore[operator]
        except TypeError as error:
            raise self._unreadable(other) from error

    def _parsed(self, seen: Any) -> Value:
        if self._how.format == "raw":
            if isinstance(seen, str) and seen.isdecimal() and seen == str(int(seen)):
                return int(seen)  # ids are sent as text to spare JavaScript; "10" is behind "9"
            if isinstance(seen, (int, Decimal, str)) and not isinstance(seen, bool):
                return seen
            raise self._unreadable(seen)
        try:
            if isinstance(seen, str) and not _numeric(seen):
                moment = datetime.fromisoformat(seen)
                return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            number = Decimal(str(seen))
            microseconds = number * (1_000 if self._how.format == "epoch_ms" else 1_000_000)
            return _EPOCH + timedelta(microseconds=int(microseconds))
        except (ValueError, InvalidOperation, OverflowError) as error:
            raise self._unreadable(seen) from error

    def _stored(self, position: Position) -> Value:
        kept = position.get("cursor")
        if self._how.format == "raw" and isinstance(kept, dict) and "number" in kept:
            return Decimal(kept["number"])
        if kept is None:
            raise ConfigurationError(f"{self._where}: the committed position {position} is not ours; run fullRefresh")
        return self._parsed(kept)

    def _kept(self, value: Value) -> Any:
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        return {"number": str(value)} if isinstance(value, Decimal) else value

    def _sent(self, value: Value) -> Any:
        if not isinstance(value, datetime):
            return value if isinstance(value, (int, str)) else str(value)
        moment = value.astimezone(UTC)
        if self._how.format == "date":
            return moment.date().isoformat()
        if self._how.format == "iso":
            return moment.replace(tzinfo=None).isoformat() + "Z"
        whole = (moment - _EPOCH) // timedelta(milliseconds=1)
        return whole if self._how.format == "epoch_ms" else whole // 1000

    def _unreadable(self, seen: Any) -> DataError:
        return DataError(
            f"{self._where}: '{self._how.field}' is {seen!r:.80}, which is no cursor of format {self._how.format}; "
            "check incremental.field and incremental.format",
            reason="CursorWithoutValue",
        )


def _numeric(text: str) -> bool:
    return text.replace(".", "", 1).lstrip("-").isdigit() and "-" not in text[1:] and len(text) != 8


__all__ = ["Since"]
