"""A value must be there."""

from __future__ import annotations

from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from millstream_pipelines.checks.base import CheckConfig


class NotNullConfig(CheckConfig):
    """Name one column or several; every one must have a value."""

    column: str | None = Field(default=None, description="Column that must have a value.")
    columns: list[str] = Field(default_factory=list, max_length=1600, description="Columns that must have values.")

    @model_validator(mode="after")
    def _any(self) -> Self:
        if not self.columns and self.column is None:
            raise ValueError("give `column` or `columns`")
        return self


class NotNull:
    """Refuses rows with NULL in any of the columns. An empty text is a value."""

    Config = NotNullConfig

    def __init__(self, config: NotNullConfig) -> None:
        self._columns = list(dict.fromkeys([*([config.column] if config.column else []), *config.columns]))

    @property
    def label(self) -> str:
        """Return `not_null(a, b)`."""
        return f"not_null({', '.join(self._columns)})"

    def columns(self) -> list[str]:
        """Return the columns looked at."""
        return self._columns

    def passes(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return where all columns have a value."""
        present = batch.column(self._columns[0]).is_valid()
        for name in self._columns[1:]:
            present = pc.and_(present, batch.column(name).is_valid())
        return present

    def message(self) -> str:
        """Say what a row must satisfy."""
        return f"{', '.join(self._columns)} must not be NULL"
