"""What a target that keeps history must have, whatever the warehouse. Pure."""

from __future__ import annotations

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.warehouses.base import LoadSpec

_TIMES = ("timestamptz", "timestamp", "date")


def require_times(spec: LoadSpec, schema: Schema) -> None:
    """Raise ConfigurationError when the stream has no usable effective time, or a column where validity goes."""
    names = spec.scd2
    taken = [name for name in (names.valid_from, names.valid_to) if schema.get(name) is not None]
    if taken or names.valid_from == names.valid_to:
        raise ConfigurationError(
            f"stream '{spec.stream}': column '{(taken or [names.valid_to])[0]}' holds the validity of a version and "
            "may be no other; give scd2.validFrom and scd2.validTo names of their own"
        )
    if names.effective_at is None:
        return
    column = schema.get(names.effective_at)
    if column is None:
        raise ConfigurationError(
            f"stream '{spec.stream}': scd2.effectiveAt names '{names.effective_at}', which is no column of the target; "
            f"it has: {', '.join(schema.names)}"
        )
    if column.type.split("(")[0] not in _TIMES:
        raise ConfigurationError(
            f"stream '{spec.stream}': scd2.effectiveAt '{column.name}' is {column.type}; accepted: "
            f"{', '.join(_TIMES)}; give the column such a `type`"
        )


def with_validity(spec: LoadSpec, schema: Schema, present: Schema | None) -> Schema:
    """Return the stream's columns and those of validity; ConfigurationError when the table has them otherwise."""
    begin = Column(spec.scd2.valid_from, "timestamptz", nullable=False)
    end = Column(spec.scd2.valid_to, "timestamptz")
    for column in (begin, end) if present is not None else ():
        found = present.get(column.name) if present is not None else None
        if found is None or found.type != column.type:
            seen = f"is {found.type}" if found else "is not there"
            raise ConfigurationError(
                f"target {spec.target}: writeDisposition 'scd2' keeps history in column '{column.name}' (timestamptz), "
                f"which {seen}; load into a new table, or add it and say since when the rows hold"
            )
    return schema.with_columns((*schema, begin, end))
