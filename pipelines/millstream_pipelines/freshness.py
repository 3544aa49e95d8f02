"""How old the newest row of a table is."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from millstream_api import CheckResult
from millstream_api.pipeline import Freshness
from millstream_pipelines.queries import TableQueries

_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """Return `1h30m`, `24h`, `90s`, `7d` as a timedelta. The pattern is checked by the API's model."""
    parts = re.findall(r"([0-9.]+)(ms|s|m|h|d)", text)
    return sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())


def newest_of(queries: TableQueries, table: str, column: str) -> datetime | None:
    """Return the largest time in a column as UTC, None for no rows. Dates count as their first moment."""
    value = queries.scalar(f"SELECT max({queries.identifier(column)}) FROM {queries.quoted(table)}")
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    return None


def freshness(spec: Freshness, default_table: str, queries: TableQueries) -> tuple[str | None, CheckResult]:
    """Return the time of the newest row (RFC 3339) and the check's result."""
    table = spec.target or default_table
    newest = newest_of(queries, table, spec.field)
    limit = duration(spec.max_age)
    if newest is None:
        passed, message = False, f"{table} has no row with a {spec.field}"
    else:
        age = datetime.now(UTC) - newest
        passed = age <= limit
        message = (
            f"newest {spec.field} in {table} is {newest:%Y-%m-%dT%H:%M:%SZ}, {_short(age)} old; limit {spec.max_age}"
        )
    result = CheckResult(
        name=f"freshness({spec.field})",
        target=table,
        severity=spec.severity,
        outcome="passed" if passed else "failed",
        message=message,
    )
    return (f"{newest:%Y-%m-%dT%H:%M:%SZ}" if newest else None), result


def _short(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
