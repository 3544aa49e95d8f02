"""Values must exist in another table."""

from __future__ import annotations

from pydantic import Field

from millstream_api.stream import TableName
from millstream_pipelines.checks.base import CheckConfig, Finding
from millstream_pipelines.queries import TableQueries


class RelationshipsConfig(CheckConfig):
    """Every value of a column must be in a column of another table."""

    column: str = Field(description="Column whose values are looked up.")
    to: TableName = Field(description="Table to look in, `schema.table`.")
    field: str | None = Field(default=None, description="Column there; empty means the same name.")
    target: TableName | None = Field(default=None, description="Table to look at; empty means the stream's.")


class Relationships:
    """Fails when values are missing on the other side. NULL refers to nothing and passes."""

    Config = RelationshipsConfig

    def __init__(self, config: RelationshipsConfig) -> None:
        self._config = config
        self._field = config.field or config.column

    @property
    def label(self) -> str:
        """Return `relationships(column → table.field)`."""
        return f"relationships({self._config.column} → {self._config.to}.{self._field})"

    def table(self) -> str | None:
        """Return the table the configuration names."""
        return self._config.target

    def evaluate(self, queries: TableQueries, table: str) -> Finding:
        """Count the values that are missing there and the rows that have one."""
        name, other = queries.identifier(self._config.column), queries.identifier(self._field)
        # Grouped first: the other table is asked once for each value, not for each row.
        found = str(
            queries.scalar(
                f"SELECT concat(count(*), ' ', coalesce(sum(n), 0)) FROM (SELECT {name} AS v, count(*) AS n"
                f" FROM {queries.quoted(table)} WHERE {name} IS NOT NULL GROUP BY {name}) AS used WHERE NOT EXISTS"
                f" (SELECT 1 FROM {queries.quoted(self._config.to)} AS known WHERE known.{other} = used.v)"
            )
        )
        values, rows = (int(part) for part in found.split())
        here, there = f"{table}.{self._config.column}", f"{self._config.to}.{self._field}"
        if not rows:
            return Finding(True, 0, f"every value of {here} is in {there}")
        return Finding(False, rows, f"{values} values on {rows} rows of {here} are not in {there}")
