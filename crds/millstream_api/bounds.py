"""Ranges and spans as people write them: which end comes first, which span is longer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime


def refuse_backwards(first: str | None, last: str | None) -> None:
    """Raise ValueError unless the range stretches forward; an end may be open, a time without a zone is UTC."""
    if first is None or last is None:
        return
    if first == last or _reaches(_comparable(first), _comparable(last)):
        raise ValueError(f"`from` must be before `to`, got '{first}' and '{last}'")


def _comparable(text: str) -> int | datetime | None:
    """Return a whole number or a time where the text is one; what is neither is for the engine to judge."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _reaches(first: int | datetime | None, last: int | datetime | None) -> bool:
    if isinstance(first, int) and isinstance(last, int):
        return first >= last
    return isinstance(first, datetime) and isinstance(last, datetime) and first >= last


def refuse_short_lived(archived: str, limits: Mapping[str, str | None]) -> None:
    """Raise ValueError where archives are kept no longer than rows: both ages count from the rows.

    `limits`: field → age of what a table is held to.
    """
    for field, age in limits.items():
        if age is not None and _days(archived) <= _days(age):
            raise ValueError(
                f"`archive.keep.age` '{archived}' is not longer than `{field}` '{age}', so archives would expire as "
                "they are made: both count from the rows. Give a longer one, or none to keep archives for ever"
            )


# Months and years by their mean.
_DAYS = {"hour": 1 / 24, "day": 1.0, "week": 7.0, "month": 365.2425 / 12, "quarter": 365.2425 / 4, "year": 365.2425}


def _days(span: str) -> float:
    count, _, unit = span.partition(" ")
    return int(count) * _DAYS[unit.removesuffix("s")]


__all__ = ["refuse_backwards", "refuse_short_lived"]
