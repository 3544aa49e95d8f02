"""A value must lie between bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from millstream_pipelines.checks.base import CheckConfig
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.literals import Literal, number, spelled, typed
from millstream_pipelines.text_values import cast_rows


class RangeConfig(CheckConfig):
    """Bounds are numbers, dates or times, quoted or not; at least one must be given."""

    column: str = Field(description="Column to look at.")
    min: Literal | None = Field(default=None, description="Smallest accepted value.")
    max: Literal | None = Field(default=None, description="Largest accepted value.")
    exclusive_min: Literal | None = Field(default=None, description="A value must be larger than this.")
    exclusive_max: Literal | None = Field(default=None, description="A value must be smaller than this.")

    @model_validator(mode="after")
    def _any(self) -> Self:
        if all(value is None for value in (self.min, self.max, self.exclusive_min, self.exclusive_max)):
            raise ValueError("give at least one of `min`, `max`, `exclusiveMin`, `exclusiveMax`")
        return self


class Range:
    """Refuses rows whose value is out of bounds. NULL passes, NaN does not.

    Numbers compare as numbers, also in a text column when every bound is an unquoted number (there what is no number
    is refused). Otherwise text compares by code point.
    """

    Config = RangeConfig

    def __init__(self, config: RangeConfig) -> None:
        self._column = config.column
        given: list[tuple[str, Callable[[Any, Any], Any], Literal | None]] = [
            ("at least", pc.greater_equal, config.min),
            ("more than", pc.greater, config.exclusive_min),
            ("at most", pc.less_equal, config.max),
            ("less than", pc.less, config.exclusive_max),
        ]
        self._bounds = [(words, test, value) for words, test, value in given if value is not None]
        self._typed: dict[pa.DataType, list[pa.Scalar]] = {}

    @property
    def label(self) -> str:
        """Return `range(column)`."""
        return f"range({self._column})"

    def columns(self) -> list[str]:
        """Return the column looked at."""
        return [self._column]

    def passes(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Return where the value lies within the bounds, or is NULL."""
        values = batch.column(self._column)
        bounds = self._typed.get(values.type)
        if bounds is None:
            bounds = self._typed[values.type] = [self._bound(value, values.type) for _, _, value in self._bounds]
        compared = values
        if pa.types.is_string(values.type) and self._numeric():
            # 76 digits hold any sane amount exactly; what does not fit is compared as a double.
            exact = cast_rows(values, pa.decimal256(76, 30))
            return pc.and_(self._within(exact, bounds), pc.or_(exact.is_valid(), self._approximate(values, exact)))
        return self._within(compared, bounds)

    def message(self) -> str:
        """Say what a row must satisfy."""
        return f"{self._column} must be " + " and ".join(
            f"{words} {spelled(value)}" for words, _, value in self._bounds
        )

    def _within(self, values: pa.Array, bounds: list[pa.Scalar]) -> pa.BooleanArray:
        inside = None
        for (_, test, _), bound in zip(self._bounds, bounds, strict=True):
            one = test(values, bound)
            inside = one if inside is None else pc.and_(inside, one)
        return pc.fill_null(inside, True)

    def _approximate(self, text: pa.StringArray, exact: pa.Array) -> pa.BooleanArray:
        """Return where text that is no 76-digit number passes: NULL, or a double within the bounds."""
        rest = pc.if_else(exact.is_valid(), pa.scalar(None, pa.string()), text)
        doubles = cast_rows(rest, pa.float64())
        bounds = [pa.scalar(float(number(value, self.label))) for _, _, value in self._bounds]
        return pc.and_(self._within(doubles, bounds), pc.or_(rest.is_null(), doubles.is_valid()))

    def _numeric(self) -> bool:
        return all(isinstance(value, int | float) and not isinstance(value, bool) for _, _, value in self._bounds)

    def _bound(self, value: Literal, arrow: pa.DataType) -> pa.Scalar:
        if pa.types.is_boolean(arrow) or pa.types.is_binary(arrow):
            raise ConfigurationError(f"{self.label}: a range needs numbers, dates, times or text, not {arrow}")
        if pa.types.is_integer(arrow) or pa.types.is_decimal(arrow):
            return _decimal(number(value, self.label))
        if pa.types.is_floating(arrow):
            return pa.scalar(float(number(value, self.label)))
        if pa.types.is_string(arrow) and self._numeric():
            return _decimal(number(value, self.label))
        return typed([value], arrow, self.label)[0]


def _decimal(bound: Decimal) -> pa.Scalar:
    """Return an exact bound; a whole number as int64, which integer columns compare with at once."""
    if not bound.is_finite():
        return pa.scalar(float(bound))
    if bound == math.trunc(bound) and -(2**63) <= bound < 2**63:
        return pa.scalar(int(bound), pa.int64())
    return pa.scalar(bound)
