"""From rows as read to rows as the target wants them: select, filter, rename, compute, mask, cast.

A row that cannot be shaped is refused by itself, with the rule that refused it; the batch goes on. Order: the filter
first (on source columns in their described types), then all else on the rows that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import DELETED, ROW, Batch, Reject
from millstream_pipelines.casting import as_text, cast_column
from millstream_pipelines.column_plan import Output, Unnested, plan_columns
from millstream_pipelines.deletes import marked, origin_of_mark
from millstream_pipelines.expressions import Expression, condition, evaluate
from millstream_pipelines.faults import Fault, refused_rows, rejects_of
from millstream_pipelines.json_rows import json_rows
from millstream_pipelines.masking import masked
from millstream_pipelines.nul_bytes import rows_with_nul
from millstream_pipelines.schema import Column, Schema


@dataclass(frozen=True)
class Shaped:
    """`rows`: the columns of the bound target, stored as `schema.arrow_type` says; then DELETED, where the stream's
    `deletes.column` marks rows."""

    rows: pa.RecordBatch
    rejects: list[Reject]
    """Rules: `cast(column)`, `effective_at`, `expression(column)`, `filter`, `nul_byte`, `primary_key`,
    `required(column)`, `unknown_column(name)`."""
    filtered: int


class Shaper:
    """Shapes the batches of one stream. `mask_key`: the secret of `mask: hash`."""

    def __init__(
        self,
        stream: StreamSpec,
        source: Schema,
        owner: str,
        mask_key: bytes = b"",
        unnested: Unnested | None = None,
    ) -> None:
        self._unnested = unnested or Unnested()
        self._plan = plan_columns(stream, source, owner, self._unnested)
        self.source = source
        self._key = tuple(stream.primary_key)
        self._effective_at = stream.scd2.effective_at if stream.write_disposition == "scd2" else None
        self._mask_key = mask_key
        mark = stream.deletes.column
        self._mark = origin_of_mark(mark, self._plan.outputs, source, owner) if mark is not None else None
        self._filter = condition(stream.filter, self._plan.taken, f"{owner}: filter") if stream.filter else None
        self._sets_unknown_aside = stream.contract.columns == "quarantine"
        self.schema = Schema(tuple(item.column for item in self._plan.outputs), self._key)
        self.bind(self.schema)

    @property
    def private(self) -> frozenset[str]:
        """Columns made from what must not be seen, whose values no message may show."""
        hidden = self._plan.hidden
        return frozenset(
            item.column.name
            for item in self._plan.outputs
            if item.mask is not None
            or (item.expression is not None and any(n in hidden for n in item.expression.inputs))
        )

    @property
    def private_sources(self) -> frozenset[str]:
        """Source columns that no quarantined row may show."""
        return frozenset(self._plan.hidden)

    def covers(self, batch: pa.Schema, unnested: Unnested | None = None) -> bool:
        """Return whether the source schema given at the start has all columns of a batch. Types may differ."""
        if unnested is not None and not self._unnested.apart <= unnested.apart:
            return False
        return set(batch.names) - {ROW} <= set(self.source.names)

    def bind(self, target: Schema) -> None:
        """Take the warehouse's answer: make exactly these columns in these types; others of `schema` are left out."""
        outputs = {item.column.name: item for item in self._plan.outputs}
        self._target = target
        self._made: list[tuple[Column, Output]] = [(column, outputs[column.name]) for column in target]
        unknown = [item for name, item in outputs.items() if target.get(name) is None]
        self._unknown = unknown if self._sets_unknown_aside else []

    def bind_keys(self, target: Schema) -> None:
        """Make the columns of the primary key only, in the target's types."""
        columns = [column for column in (target.get(name) for name in self._key) if column is not None]
        self.bind(Schema(tuple(columns), self._key))
        self._unknown = []

    def inputs(self, names: Iterable[str]) -> list[str]:
        """Return the source columns that these columns of the target, the filter and the mark are made of."""
        wanted = set(self._filter.inputs) if self._filter is not None else set()
        for item in self._plan.outputs:
            if item.column.name in set(names) or self._mark == ("output", item.column.name):
                wanted |= set(item.expression.inputs) if item.expression else {item.source or item.column.name}
        if self._mark is not None and self._mark[0] == "source":
            wanted.add(self._mark[1])
        return [name for name in self.source.names if name in wanted]

    def apply(self, batch: Batch) -> Shaped:
        """Shape one batch. A column that the batch lacks is NULL; ROW, if there, comes out last."""
        data, filtered = batch.data, 0
        rejects: list[Reject] = []
        if self._filter is not None:
            data, rejects, filtered = self._filtered(data, self._filter)
        work = _Work(data, self._plan.taken, set(self._plan.hidden))
        arrays = [self._made_of(column, output, work) for column, output in self._made]
        gone = self._marked(work)
        self._look_for_null(arrays, work, gone)
        self._look_for_unknown(work)
        rows = pa.RecordBatch.from_arrays(arrays, schema=self._target.arrow())
        if gone is not None:
            rows = rows.append_column(DELETED, gone)
        if ROW in data.schema.names:
            rows = rows.append_column(ROW, data.column(ROW))
        if work.faults:
            refused = refused_rows(work.faults)
            rejects = rejects + rejects_of(work.faults, refused, self._reader(data))
            rows = rows.filter(pc.invert(refused))
        return Shaped(rows, rejects, filtered)

    def _filtered(self, data: pa.RecordBatch, wanted: Expression) -> tuple[pa.RecordBatch, list[Reject], int]:
        work = _Work(data, self._plan.taken, set(self._plan.hidden))
        keep = pc.fill_null(work.evaluated(wanted, "filter", private=False), False)
        rejects: list[Reject] = []
        if work.faults:
            refused = refused_rows(work.faults)
            rejects = rejects_of(work.faults, refused, self._reader(data))
            keep = pc.and_not(keep, refused)
        if keep.true_count == data.num_rows:
            return data, rejects, 0
        return data.filter(keep), rejects, data.num_rows - keep.true_count - len(rejects)

    def _made_of(self, column: Column, output: Output, work: _Work) -> pa.Array:
        if output.expression is not None:
            rule = f"expression({column.name})"
            values = work.evaluated(output.expression, rule, private=output.mask is not None)
            private = output.mask is not None or work.reads_hidden(output.expression)
        else:
            assert output.source is not None, "an output has one origin"  # noqa: S101
            values, private = work.read(output.source), output.mask is not None
        if output.mask is not None:
            values = masked(values, output.mask, self._mask_key)
        made = work.cast(column.name, values, column.type, private=private)
        if pa.types.is_string(made.type):
            json = column.type in ("json", "jsonb")
            work.refuse("nul_byte", rows_with_nul(made, json=json), f"column '{column.name}': text holds a NUL byte")
        return made

    def _marked(self, work: _Work) -> pa.BooleanArray | None:
        """Return which rows the source marks as deleted; None where the stream follows no mark."""
        if self._mark is None:
            return None
        kind, name = self._mark
        if kind == "output":
            output = next(item for item in self._plan.outputs if item.column.name == name)
            return marked(self._made_of(output.column, output, work))
        column = self.source.get(name)
        return marked(work.cast(name, work.read(name), column.type if column else "text", private=True))

    def _look_for_null(self, arrays: list[pa.Array], work: _Work, gone: pa.BooleanArray | None) -> None:
        for (column, _), array in zip(self._made, arrays, strict=True):
            required = not column.nullable or column.name in self._key or column.name == self._effective_at
            if not array.null_count or not required:
                continue
            # A value that a cast has refused is NULL by now; its fault is told already.
            absent = pc.and_not(array.is_null(), refused_rows(work.faults)) if work.faults else array.is_null()
            if column.name in self._key:
                why = f"column '{column.name}' is NULL, but it is in the primary key"
                work.refuse("primary_key", absent, why)
            elif column.name == self._effective_at:
                why = f"column '{column.name}' is NULL, but scd2.effectiveAt needs the time a change took effect"
                work.refuse("effective_at", absent, why)
            else:
                absent = absent if gone is None else pc.and_not(absent, gone)  # of a deleted row the key is enough
                why = f"column '{column.name}' is NULL, but the target requires a value"
                work.refuse(f"required({column.name})", absent, why)

    def _look_for_unknown(self, work: _Work) -> None:
        for item in self._unknown:
            name = item.column.name
            values = work.read(item.source) if item.source is not None else self._made_of(item.column, item, work)
            why = f"column '{name}' is not in the target and contract.columns is 'quarantine'; add it, or set 'evolve'"
            work.refuse(f"unknown_column({name})", values.is_valid(), why)

    def _reader(self, data: pa.RecordBatch) -> Callable[[pa.Array], list[dict[str, Any]]]:
        """Return a reader of rows for quarantine: the taken source columns, hidden ones masked."""
        made = self._unnested.origins
        taken = [name for name in data.schema.names if self._plan.taken.get(name) is not None and name not in made]

        def read(indices: pa.Array) -> list[dict[str, Any]]:
            rows = pa.Table.from_batches([data.select(taken)]).take(indices)
            for place, name in enumerate(taken):
                if (mask := self._plan.hidden.get(name)) is not None:
                    rows = rows.set_column(
                        place, name, masked(rows.column(name).combine_chunks(), mask, self._mask_key)
                    )
            return json_rows(rows)

        return read


class _Work:
    """One batch on its way: its columns, each typed once, and the faults found so far."""

    def __init__(self, data: pa.RecordBatch, described: Schema, hidden: set[str]) -> None:
        self._data = data
        self._described = described
        self._hidden = hidden
        self._typed: dict[str, pa.Array] = {}
        self.faults: list[Fault] = []

    def read(self, name: str) -> pa.Array:
        """Return a source column as it was read; NULLs when it has vanished."""
        place = self._data.schema.get_field_index(name)
        return self._data.column(place) if place >= 0 else pa.nulls(self._data.num_rows)

    def cast(self, name: str, values: pa.Array, target: str, *, private: bool) -> pa.Array:
        """Cast and note the refused rows under `cast(name)`; `private` keeps the value out of the message."""
        cast = cast_column(values, target)
        if cast.refused is not None:

            def explain(index: int) -> str:
                seen = "the value" if private else _shown(values[index])
                return f"column '{name}': {seen} is no {target}{_cure(values[index], target)}"

            self.faults.append(Fault(f"cast({name})", cast.refused, explain))
        return cast.values

    def reads_hidden(self, expression: Expression) -> bool:
        """Return whether an expression reads what a message must not show."""
        return any(name in self._hidden for name in expression.inputs)

    def evaluated(self, expression: Expression, rule: str, *, private: bool) -> pa.Array:
        """Evaluate over the source columns in their described types, and note the rows where that fails."""
        inputs = {name: self._input(name) for name in expression.inputs}
        rows = pa.RecordBatch.from_pydict(inputs) if inputs else self._data
        result = evaluate(expression, rows)
        if result.failed is not None:
            # DuckDB's words hold the first failing row's value; they are about one row, and may be private.
            quiet = private or self.reads_hidden(expression)
            why = f"{rule}: it fails for this row" if quiet else f"{rule}: it fails for this row or one like it"
            self.refuse(rule, result.failed, why if quiet else f"{why}: {result.message}")
        return result.values

    def _input(self, name: str) -> pa.Array:
        if name not in self._typed:
            column = self._described.get(name)
            target = column.type if column else "text"
            self._typed[name] = self.cast(name, self.read(name), target, private=name in self._hidden)
        return self._typed[name]

    def refuse(self, rule: str, rows: pa.BooleanArray | None, why: str) -> None:
        """Note refused rows, if there are any."""
        if rows is not None and rows.true_count:
            self.faults.append(Fault(rule, rows, lambda _: why))


def _cure(value: pa.Scalar, target: str) -> str:
    """Return what to declare so that a value of the source's own type is kept, "" where nothing is known."""
    if target.startswith("numeric(") and str(value).strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return "; `type: numeric` holds it"
    return ""


def _shown(value: pa.Scalar) -> str:
    """Return a value for a message: at most 80 characters, control characters escaped."""
    shown = repr(str(as_text(pa.array([value]))[0]))
    return shown if len(shown) <= 80 else f"{shown[:77]}…'"
