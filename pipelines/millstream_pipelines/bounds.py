"""Values of a cursor as its type spells them: read, compared, and written again. Pure.

Times without a zone are UTC where the type has one. Text is no such cursor: nothing says where its next value lies.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import normalized

Kind = Literal["timestamptz", "timestamp", "date", "number"]
Value = datetime | date | int | Decimal

_NUMBERS = ("smallint", "integer", "bigint", "numeric")
_LOOKS = {
    "timestamptz": "a time such as 2026-01-31T12:00:00Z",
    "timestamp": "a time without a zone such as 2026-01-31T12:00:00",
    "date": "a day such as 2026-01-31",
    "number": "a whole number",
}


def kind_of(sql_type: str) -> Kind | None:
    """Return how values of this SQL type follow one another, None where that cannot be cut into intervals."""
    base = normalized(sql_type).split("(")[0]
    if base in _NUMBERS:
        return "number"
    for kind in ("timestamptz", "timestamp", "date"):
        if base == kind:
            return kind
    return None


def bound(kind: Kind, text: str, where: str) -> Value:
    """Return a bound that a person wrote. ConfigurationError names `where`, the value and what is accepted."""
    try:
        return value(kind, text)
    except ValueError:
        sort = kind if kind != "number" else "a whole number"
        raise ConfigurationError(f"{where} is '{text}', and the cursor is {sort}: write {_LOOKS[kind]}") from None


def value(kind: Kind, given: Any) -> Value:
    """Return a value of the kind, from its text or from Python's own. ValueError where it is none."""
    if kind == "number":
        if isinstance(given, int) and not isinstance(given, bool):
            return given
        if isinstance(given, Decimal) and given.is_finite():
            return given
        if isinstance(given, str) and re.fullmatch(r"[+-]?\d{1,38}", given.strip(), re.ASCII):
            return int(given)
        raise ValueError(given)
    if isinstance(given, str):
        given = _day(given) if kind == "date" else datetime.fromisoformat(given.strip())
    if kind == "date":
        if isinstance(given, datetime) or not isinstance(given, date):
            raise ValueError(given)
        return given
    if isinstance(given, date) and not isinstance(given, datetime):
        given = datetime(given.year, given.month, given.day)
    if not isinstance(given, datetime) or (kind == "timestamp" and given.tzinfo is not None):
        raise ValueError(given)
    if kind == "timestamp":
        return given
    return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)


def _day(text: str) -> date:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text.strip(), re.ASCII):
        raise ValueError(text)
    return date.fromisoformat(text.strip())


def spelled(given: Value) -> str:
    """Return a value's one spelling: ISO 8601, or digits."""
    return str(given) if isinstance(given, int | Decimal) else given.isoformat()


def next_value(given: Value) -> Value:
    """Return the smallest value that a warehouse can tell from `given` and that is behind it."""
    if isinstance(given, int | Decimal):
        return given + 1
    return given + (timedelta(microseconds=1) if isinstance(given, datetime) else timedelta(days=1))
