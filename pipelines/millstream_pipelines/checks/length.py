"""A text must not be too short or too long."""

from __future__ import annotations

from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from millstream_pipelines.checks.base import CheckConfig
from millstream_pipelines.errors import ConfigurationError


class LengthConfig(CheckConfig):
    """Lengths are characters of text (code points, as in PostgreSQL) or bytes of bytea."""

    column: str = Field(description="Column to look at.")
    min: int | None = Field(default=None, ge=0, description="Smallest accepted length.")
    max: int | None = Field(default=None, ge=0, description="Largest accepted length.")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("`min` is larger than `max`: no value would pass")
        return self


class Length:
    """Refuses rows whose text or bytes are too short or too long. NULL passes."""

    Config = LengthConfig

    def __init__(self, config: LengthConfig) -> None:
        self._config = config

    @property
    def label(self) -> str:
        """Return `length(column)`."""
        return f"length({self._config.column})"

    def columns(self) -> list[str]:
        """Return the column looked at."""
        return [self._config.column]

    def passes(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return where the length is accepted, or the value NULL."""
        values = batch.column(self._config.column)
        if pa.types.is_string(values.type):
            lengths = pc.utf8_length(values)
        elif pa.types.is_binary(values.type):
            lengths = pc.binary_length(values)
        else:
            raise ConfigurationError(f"{self.label}: a length needs text or bytea, the column is {values.type}")
        smallest, largest = self._config.min or 0, self._config.max
        long_enough = pc.greater_equal(lengths, smallest)
        fits = long_enough if largest is None else pc.and_(long_enough, pc.less_equal(lengths, largest))
        return pc.fill_null(fits, True)

    def message(self) -> str:
        """Say what a row must satisfy."""
        limits = [f"at least {self._config.min}"] if self._config.min is not None else []
        limits += [f"at most {self._config.max}"] if self._config.max is not None else []
        return f"{self._config.column} must have {' and '.join(limits)} characters or bytes"
