"""A value must be one of a list."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from millstream_pipelines.checks.base import CheckConfig
from millstream_pipelines.literals import Literal, spelled, typed


class AcceptedValuesConfig(CheckConfig):
    """Values are compared in the column's type: `1`, `"1"` and `1.0` are one value of a numeric column."""

    column: str = Field(description="Column to look at.")
    values: list[Literal] = Field(min_length=1, max_length=10000, description="Accepted values, quoted or not.")


class AcceptedValues:
    """Refuses rows whose value is not in the list. NULL passes."""

    Config = AcceptedValuesConfig

    def __init__(self, config: AcceptedValuesConfig) -> None:
        self._config = config
        self._typed: dict[pa.DataType, pa.Array] = {}

    @property
    def label(self) -> str:
        """Return `accepted_values(column)`."""
        return f"accepted_values({self._config.column})"

    def columns(self) -> list[str]:
        """Return the column looked at."""
        return [self._config.column]

    def passes(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return where the value is accepted, or NULL."""
        values = batch.column(self._config.column)
        accepted = self._typed.get(values.type)
        if accepted is None:
            accepted = self._typed[values.type] = typed(self._config.values, values.type, self.label)
        found = pc.is_in(values, accepted)
        return pc.or_(found, values.is_null()) if values.null_count else found

    def message(self) -> str:
        """Say what a row must satisfy; a long list is cut."""
        values = [spelled(value) for value in self._config.values]
        more = f" and {len(values) - 20} more" if len(values) > 20 else ""
        return f"{self._config.column} must be one of {', '.join(values[:20])}{more}"
