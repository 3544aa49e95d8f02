"""Values from a manifest, typed as the column they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

import pyarrow as pa

from millstream_pipelines.casting import cast_column
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import sql_type

Literal = bool | int | float | date | datetime | str
"""What YAML makes of an unquoted word; `2013-01-01` is a date there and text in JSON, and means the same here."""


def spelled(value: Literal) -> str:
    """Return a value as one would write it in SQL's text form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date) else str(value)


def typed(values: Sequence[Literal], arrow: pa.DataType, what: str) -> pa.Array:
    """Return values of a column's type, quoted or not. ConfigurationError names the first that is none."""
    texts = [spelled(value) for value in values]
    cast = cast_column(pa.array(texts, pa.string()), sql_type(arrow))
    if cast.refused is not None:
        wrong = texts[cast.refused.to_pylist().index(True)]
        raise ConfigurationError(f"{what}: '{wrong}' is no {sql_type(arrow)}, which the column is")
    return cast.values


def number(value: Literal, what: str) -> Decimal:
    """Return a bound as an exact number."""
    try:
        return Decimal(spelled(value))
    except InvalidOperation:
        raise ConfigurationError(f"{what}: '{value}' is no number, which the column is") from None
