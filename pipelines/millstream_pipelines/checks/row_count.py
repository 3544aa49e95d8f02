"""A table must have about the expected number of rows."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from millstream_api.stream import TableName
from millstream_pipelines.checks.base import CheckConfig, Finding
from millstream_pipelines.queries import TableQueries


class RowCountConfig(CheckConfig):
    """Bounds of the number of rows; at least one must be given."""

    min: int | None = Field(default=None, ge=0, description="Smallest accepted number of rows.")
    max: int | None = Field(default=None, ge=0, description="Largest accepted number of rows.")
    target: TableName | None = Field(default=None, description="Table to look at; empty means the stream's.")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("`min` is larger than `max`: no table would pass")
        return self


class RowCount:
    """Fails when a table has too few or too many rows; `failed_rows` is how many it lacks or has too many."""

    Config = RowCountConfig

    def __init__(self, config: RowCountConfig) -> None:
        self._config = config

    @property
    def label(self) -> str:
        """Return `row_count(table)`, or `row_count` for the stream's table."""
        return f"row_count({self._config.target})" if self._config.target else "row_count"

    def table(self) -> str | None:
        """Return the table the configuration names."""
        return self._config.target

    def evaluate(self, queries: TableQueries, table: str) -> Finding:
        """Count the rows."""
        rows = int(str(queries.scalar(f"SELECT count(*) FROM {queries.quoted(table)}")))
        least, most = self._config.min or 0, self._config.max
        off = max(least - rows, 0 if most is None else rows - most, 0)
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        return Finding(off == 0, off, f"{table} has {rows} rows; {wanted} expected")
