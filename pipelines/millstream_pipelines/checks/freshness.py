"""The newest row of a table must be young enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field

from millstream_api.stream import Duration, TableName
from millstream_pipelines.checks.base import CheckConfig, Finding
from millstream_pipelines.freshness import duration
from millstream_pipelines.queries import TableQueries


class FreshnessConfig(CheckConfig):
    """How old the newest value of a time column may be."""

    field: str = Field(description="Time column: timestamptz, timestamp (taken as UTC) or date (its first moment).")
    max_age: Duration = Field(description="Largest age of the newest value, for example `24h`.")
    target: TableName | None = Field(default=None, description="Table to look at; empty means the stream's.")


class Freshness:
    """Fails when the newest value is too old, or when there is none. One in the future is fresh, and said."""

    Config = FreshnessConfig

    def __init__(self, config: FreshnessConfig) -> None:
        self._config = config
        self._max_age = duration(config.max_age)

    @property
    def label(self) -> str:
        """Return `freshness(field)`."""
        return f"freshness({self._config.field})"

    def table(self) -> str | None:
        """Return the table the configuration names."""
        return self._config.target

    def evaluate(self, queries: TableQueries, table: str) -> Finding:
        """Compare the newest value with the time of this machine."""
        where = f"{table}.{self._config.field}"
        newest = f"max({queries.identifier(self._config.field)})"
        # Seconds, not a time: no driver, session time zone or missing time zone package comes between.
        seconds: Any = queries.scalar(f"SELECT extract(epoch FROM {newest}) FROM {queries.quoted(table)}")
        if seconds is None:
            return Finding(False, 0, f"{where} has no value; one of the last {self._config.max_age} is expected")
        if abs(float(seconds)) == float("inf"):
            return Finding(float(seconds) > 0, 0, f"newest value of {where} is {float(seconds):+}inity")
        age = datetime.now(UTC).timestamp() - float(seconds)
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(seconds))
        distance = f"{timedelta(seconds=int(abs(age)))} {'old' if age >= 0 else 'in the future'}"
        found = (
            f"newest value of {where} is {moment:%Y-%m-%dT%H:%M:%SZ}, {distance}; at most {self._config.max_age} old"
        )
        return Finding(age <= self._max_age.total_seconds(), 0, f"{found} is expected")
