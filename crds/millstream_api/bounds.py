"""Ends of a half-open range as people write them: whole numbers or times, the first before the last."""

from __future__ import annotations

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


__all__ = ["refuse_backwards"]
