"""Values must not repeat in a table."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from millstream_api.stream import TableName
from millstream_pipelines.checks.base import CheckConfig, Finding
from millstream_pipelines.queries import TableQueries


class UniqueConfig(CheckConfig):
    """Name one column, or several that are unique together."""

    column: str | None = Field(default=None, description="Column without repetition.")
    columns: list[str] = Field(default_factory=list, max_length=32, description="Columns unique together.")
    target: TableName | None = Field(default=None, description="Table to look at; empty means the stream's.")

    @model_validator(mode="after")
    def _any(self) -> Self:
        if not self.columns and self.column is None:
            raise ValueError("give `column` or `columns`")
        return self


class Unique:
    """Fails when a key occurs twice. As in SQL, rows with NULL in a column equal no other."""

    Config = UniqueConfig

    def __init__(self, config: UniqueConfig) -> None:
        self._columns = list(dict.fromkeys([*([config.column] if config.column else []), *config.columns]))
        self._target = config.target

    @property
    def label(self) -> str:
        """Return `unique(a, b)`."""
        return f"unique({', '.join(self._columns)})"

    def table(self) -> str | None:
        """Return the table the configuration names."""
        return self._target

    def evaluate(self, queries: TableQueries, table: str) -> Finding:
        """Count the repeated keys and all rows that have one."""
        names = [queries.identifier(name) for name in self._columns]
        present = " AND ".join(f"{name} IS NOT NULL" for name in names)
        repeated = (
            f"SELECT count(*) AS n FROM {queries.quoted(table)}"
            f" WHERE {present} GROUP BY {', '.join(names)} HAVING count(*) > 1"
        )
        found = str(queries.scalar(f"SELECT concat(count(*), ' ', coalesce(sum(n), 0)) FROM ({repeated}) AS repeated"))
        keys, rows = (int(part) for part in found.split())
        where = f"{table} ({', '.join(self._columns)})"
        if not rows:
            return Finding(True, 0, f"no value repeats in {where}")
        return Finding(False, rows, f"{keys} values occur more than once, on {rows} rows, in {where}")
