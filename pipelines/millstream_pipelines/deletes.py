"""Rows that are gone at the source: which are marked so, and which columns say it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from millstream_api.stream import StreamSpec
from millstream_pipelines.errors import unknown_value
from millstream_pipelines.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa

    from millstream_pipelines.column_plan import Output

_NO = ("", "0", "f", "false", "n", "no", "off")


def marked(values: pa.Array) -> pa.BooleanArray:
    """Return which values mark a row as deleted: true, and any other value that says neither no nor nothing.

    Nothing: NULL, false, zero, an empty text and the texts 0, f, false, n, no, off in any case. A time is a mark.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_boolean(values.type):
        return pc.fill_null(values, False)
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        return pc.fill_null(pc.not_equal(values, pa.scalar(0).cast(values.type)), False)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        said = pc.utf8_lower(pc.utf8_trim_whitespace(values))
        return pc.and_(values.is_valid(), pc.invert(pc.is_in(said, pa.array(_NO, values.type))))
    return values.is_valid()


def follows_absence(stream: StreamSpec) -> bool:
    """Return whether rows whose key the source has no more are to leave the target, or to end there."""
    ends = stream.mode == "full" and stream.write_disposition == "scd2"
    return ends or stream.deletes.reconcile_every is not None


def read_columns(stream: StreamSpec) -> tuple[str, ...]:
    """Return the columns to ask a source for: `select`, and what marks deleted rows; empty means all."""
    mark = stream.deletes.column
    made_here = mark in {column.name for column in stream.columns if not column.drop}
    if not stream.select or mark is None or made_here or mark in stream.select:
        return tuple(stream.select)
    return (*stream.select, mark)


def origin_of_mark(
    mark: str, outputs: tuple[Output, ...], source: Schema, owner: str
) -> tuple[Literal["output", "source"], str]:
    """Return whether a column of the target marks deleted rows, or one of the source that need not be loaded.

    Raises ConfigurationError when there is no such column.
    """
    if any(item.column.name == mark for item in outputs):
        return "output", mark
    if source.get(mark) is None:
        raise unknown_value(f"{owner}: deletes.column", "column", mark, source.names)
    return "source", mark
