"""A condition in SQL must not be false."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from millstream_pipelines import expressions
from millstream_pipelines.checks.base import CheckConfig
from millstream_pipelines.schema import schema_of


class ExpressionConfig(CheckConfig):
    """A condition over the columns of one row, in DuckDB's SQL."""

    sql: str = Field(min_length=1, max_length=10000, description="Condition, for example `arr_time > dep_time`.")


class Expression:
    """Refuses rows for which the condition is false or cannot be computed. NULL passes, as in a CHECK constraint."""

    Config = ExpressionConfig

    def __init__(self, config: ExpressionConfig) -> None:
        self._sql = config.sql
        self._compiled: tuple[pa.Schema, expressions.Expression] | None = None

    @property
    def label(self) -> str:
        """Return `expression(…)` with the start of the condition."""
        return f"expression({self._sql if len(self._sql) <= 40 else self._sql[:39] + '…'})"

    def columns(self) -> list[str]:
        """Return nothing: binding the condition names an unknown column better."""
        return []

    def passes(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return where the condition is true or NULL."""
        if self._compiled is None or self._compiled[0] != batch.schema:
            condition = expressions.condition(self._sql, schema_of(batch.schema), self.label)
            self._compiled = (batch.schema, condition)
        result = expressions.evaluate(self._compiled[1], batch)
        passed = pc.fill_null(result.values, True)
        return passed if result.failed is None else pc.and_not(passed, result.failed)

    def message(self) -> str:
        """Say what a row must satisfy."""
        return f"must satisfy {self._sql}"
