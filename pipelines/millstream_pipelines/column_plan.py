"""What becomes of each source column: taken, renamed, computed, masked or dropped. Decided before the first row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from millstream_api.stream import ColumnSpec, StreamSpec
from millstream_pipelines.errors import ConfigurationError, unknown_value
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.type_names import declared

if TYPE_CHECKING:
    from millstream_pipelines.expressions import Expression
    from millstream_pipelines.masking import Mask


@dataclass(frozen=True)
class Output:
    """A column of the target and where its values come from: `source` or `expression`."""

    column: Column
    source: str | None = None
    expression: Expression | None = None
    mask: Mask | None = None


@dataclass(frozen=True)
class ColumnPlan:
    """All outputs in order, the source columns taken, and how a quarantined row shows those not to be seen."""

    outputs: tuple[Output, ...]
    taken: Schema
    hidden: dict[str, Mask]


@dataclass(frozen=True)
class Unnested:
    """What became of nested columns: see `nested`."""

    origins: Mapping[str, str] = field(default_factory=dict)
    """Column made → nested column it comes from. Quarantined rows show the latter."""
    apart: frozenset[str] = frozenset()
    """Nested columns that were taken apart whole; they reach no target."""


def plan_columns(stream: StreamSpec, source: Schema, owner: str, unnested: Unnested | None = None) -> ColumnPlan:
    """Decide the columns of a stream.

    Pass-through columns keep the source's order, a named column stands where its source column stood, a computed
    one that replaces no source column goes last. Raises ConfigurationError that names the column.
    """
    unnested = unnested or Unnested()
    taken = _taken(stream, source, owner, unnested)
    for spec in stream.columns:
        if spec.expression is None and taken.get(spec.source or spec.name) is None:
            raise _unknown_column(spec, stream, source, taken, owner)
    outputs: list[Output] = []
    for column in taken:
        named = [spec for spec in stream.columns if _place(spec) == column.name]
        if not named and column.name not in unnested.apart:
            outputs.append(Output(column, source=column.name))
        outputs += [_output(spec, taken, owner) for spec in named if not spec.drop]
    outputs += [
        _output(spec, taken, owner) for spec in stream.columns if taken.get(_place(spec)) is None and not spec.drop
    ]
    _refuse_twice([item.column.name for item in outputs], owner)
    hidden = _hidden(stream.columns, outputs, taken)
    # Who must not see a part must not see the whole either, which is what quarantine shows.
    hidden |= dict.fromkeys((whole for part, whole in unnested.origins.items() if part in hidden), "redact")
    return ColumnPlan(tuple(outputs), taken, hidden)


def _place(spec: ColumnSpec) -> str:
    """Return the source column in whose place a named column stands."""
    return spec.source or spec.name


def _taken(stream: StreamSpec, source: Schema, owner: str, unnested: Unnested) -> Schema:
    for name in stream.select:
        if source.get(name) is None:
            raise unknown_value(owner, "column in `select`", name, source.names)
    wanted = set(stream.select)
    return source.with_columns(
        column for column in source if not wanted or unnested.origins.get(column.name, column.name) in wanted
    )


def _unknown_column(
    spec: ColumnSpec, stream: StreamSpec, source: Schema, taken: Schema, owner: str
) -> ConfigurationError:
    wanted = spec.source or spec.name
    if stream.select and source.get(wanted) is not None:
        return ConfigurationError(f"{owner}: column '{spec.name}' comes from '{wanted}', which `select` leaves out")
    return unknown_value(f"{owner}: column '{spec.name}'", "source column", wanted, taken.names)


def _output(spec: ColumnSpec, taken: Schema, owner: str) -> Output:
    from millstream_pipelines.casting import castable
    from millstream_pipelines.expressions import compiled

    where = f"{owner}: column '{spec.name}'"
    wanted = declared(spec.type, where) if spec.type else None
    if spec.mask and wanted and not wanted.startswith(("text", "character")):
        raise ConfigurationError(f"{where}: a mask makes text, not {wanted}; leave `type` out or say text")
    if spec.expression is not None:
        expression = compiled(spec.expression, taken, where)
        before, nullable = expression.type, True
    else:
        origin = taken.get(spec.source or spec.name)
        assert origin is not None, "looked up before"  # noqa: S101
        expression, before, nullable = None, origin.type, origin.nullable
    after = wanted or ("text" if spec.mask else before)
    if not spec.mask and not castable(before, after):
        raise ConfigurationError(f"{where}: {before} cannot become {after}; give an `expression` that says how")
    source = None if expression else spec.source or spec.name
    return Output(Column(spec.name, after, nullable), source, expression, spec.mask)


def _refuse_twice(names: list[str], owner: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{owner}: columns made twice: {', '.join(twice)}; rename or drop one of each")
    if not names:
        raise ConfigurationError(f"{owner}: no column is left to load")


def _hidden(specs: Iterable[ColumnSpec], outputs: list[Output], taken: Schema) -> dict[str, Mask]:
    """Return source column → mask for quarantined rows: what the target must not show, quarantine must not either.

    Masked columns get their mask. Dropped columns, and what masked expressions read, are redacted unless they also
    reach the target in clear.
    """
    clear = {item.source for item in outputs if item.source and not item.mask}
    hidden: dict[str, Mask] = {spec.source or spec.name: "redact" for spec in specs if spec.drop}
    for item in outputs:
        if item.mask and item.expression:
            hidden.update(dict.fromkeys(item.expression.inputs, "redact"))
    hidden = {name: mask for name, mask in hidden.items() if name not in clear and taken.get(name) is not None}
    hidden.update({item.source: item.mask for item in outputs if item.mask and item.source})
    return hidden
