"""Which column types a binary COPY of encoded batches can fill. Apart from the encoder: to say so needs no Arrow."""

from __future__ import annotations

import re

from millstream_pipelines.schema import Column, is_decimal

_NATIVE = re.compile(
    r"smallint|integer|bigint|real|double precision|boolean|date|time|timestamp|timestamptz|bytea|text|json|jsonb|uuid"
    r"|character varying(\(\d+\))?|character(\(\d+\))?|numeric(\(\d+(,\d+)?\))?"
)


def is_native(column: Column) -> bool:
    """Return whether COPY can fill a column of this type directly. Others go through a text stage and a cast."""
    if not _NATIVE.fullmatch(column.type):
        return False
    return not column.type.startswith("numeric(") or is_decimal(column.type)
