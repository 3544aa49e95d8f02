"""A stretch of the cursor, asked of an API: a little more than it, and then exactly its records.

APIs differ in whether an end belongs to the stretch, and most round it. So they are asked for one unit more at the
start, and the end is rounded up; what lies outside is left out here.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from millstream_pipelines.bounds import Value, kind_of, value
from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.sources._rest.body import at_path
from millstream_pipelines.sources._rest.config import Incremental
from millstream_pipelines.sources.base import Range

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {
    "iso": timedelta(seconds=1),
    "epoch": timedelta(seconds=1),
    "epoch_ms": timedelta(milliseconds=1),
    "date": timedelta(days=1),
}


class Stretch:
    """Asks for `stretch` and keeps its records. ConfigurationError where the column is no cursor with an order."""

    def __init__(self, how: Incremental, where: str, column_type: str, stretch: Range) -> None:
        kind = kind_of(column_type)
        if kind is None:
            raise ConfigurationError(
                f"{where}: field '{how.field}' is {column_type or 'no column'}, whose order is not known; declare it "
                "under the stream's `columns`, for example as timestamptz"
            )
        self._how, self._where, self._kind = how, where, kind
        self._start: Any = value(kind, stretch.start)
        self._end: Any = value(kind, stretch.end)

    def params(self) -> dict[str, Any]:
        """Return the parameters of the two ends."""
        how = self._how
        if how.format == "raw":
            if self._kind != "number":
                return {how.param: self._start.isoformat(), str(how.until_param): self._end.isoformat()}
            return {how.param: self._start - 1, str(how.until_param): self._end}
        unit = _UNITS[how.format]
        first, last = self._moment(self._start), self._moment(self._end)
        first -= (first - _EPOCH) % unit + unit
        last += (_EPOCH - last) % unit
        return {how.param: self._sent(first), str(how.until_param): self._sent(last)}

    def kept(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the records of the stretch; one without the field is in none. DataError for one that is unreadable."""
        return [record for record in records if self._holds(at_path(record, self._how.field))]

    def _holds(self, seen: Any) -> bool:
        if seen is None:
            return False
        try:
            found: Any = self._value(seen)
            return bool(self._start <= found < self._end)
        except (ValueError, TypeError, OverflowError):
            raise DataError(
                f"{self._where}: '{self._how.field}' is {seen!r:.80}, which is no {self._kind}; check the field's type",
                reason="CursorWithoutValue",
            ) from None

    def _value(self, seen: Any) -> Value:
        if self._kind == "date" and isinstance(seen, str):
            return value(self._kind, seen[:10])
        return value(self._kind, seen)

    def _moment(self, given: Any) -> datetime:
        if isinstance(given, int):
            return _EPOCH + timedelta(milliseconds=given if self._how.format == "epoch_ms" else given * 1000)
        if isinstance(given, date) and not isinstance(given, datetime):
            given = datetime(given.year, given.month, given.day)
        moment: datetime = given if given.tzinfo else given.replace(tzinfo=UTC)
        return moment

    def _sent(self, moment: datetime) -> Any:
        if self._how.format == "date":
            return moment.date().isoformat()
        if self._how.format == "iso":
            return moment.replace(tzinfo=None).isoformat() + "Z"
        whole = (moment - _EPOCH) // timedelta(milliseconds=1)
        return whole if self._how.format == "epoch_ms" else whole // 1000


__all__ = ["Stretch"]
