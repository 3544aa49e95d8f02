"""From rows as read to rows as the target wants them: select, filter, rename, compute, mask, cast.

A row that cannot be shaped is refused by itself, with the rule that refused it; the batch goes on. Order: the filter
first (on source columns in their described types), then all else on the rows that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import DELETED, LINE, REPLAYED_ID, ROW, Batch, Kept, Reject
from millstream_pipelines.column_plan import Output, Unnested, plan_columns
from millstream_pipelines.deletes import marked, origin_of_mark
from millstream_pipelines.expressions import Expression, condition
from millstream_pipelines.faults import refused_rows, rejects_of
from millstream_pipelines.json_rows import json_rows
from millstream_pipelines.masking import masked
from millstream_pipelines.nul_bytes import rows_with_nul
from millstream_pipelines.own_lines import read_from_lines
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.shaping_work import Work


@dataclass(frozen=True)
class Shaped:
    """`rows`: the columns of the bound target, stored as `schema.arrow_type` says; then DELETED, where the stream's
    `deletes.column` marks rows."""

    rows: pa.RecordBatch
    rejects: list[Reject]
    """Rules: `cast(column)`, `effective_at`, `expression(column)`, `filter`, `nul_byte`, `primary_key`,
    `required(column)`, `unknown_column(name)`."""
    filtered: int
    origin: pa.RecordBatch
    """The rows as read, one for each of `rows`."""
    read: Callable[[pa.Array], list[Kept]] | None
    """Returns the rows at some places of `rows` as quarantine keeps them. None: masks have taken what a replay needs,
    so a row must be kept as shaped."""

    def numbered(self, indices: pa.Array) -> list[Kept]:
        """Return only the numbers of rows that come from the quarantine, which has the rows already."""
        return [Kept({}, id=number) for number in self.origin.column(REPLAYED_ID).take(indices).to_pylist()]


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
        return set(batch.names) - {ROW, LINE} <= set(self.source.names)

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

    def lost(self, masked_before: frozenset[str]) -> str | None:
        """Return why rows whose named columns hold masked values cannot be shaped again, or None."""
        read = [("the filter", self._filter)] if self._filter is not None else []
        read += [(f"column '{o.column.name}'", o.expression) for o in self._plan.outputs if o.expression is not None]
        for reader, expression in read:
            if gone := sorted(masked_before.intersection(expression.inputs)):
                return f"{reader} reads '{gone[0]}', whose value was masked when the row was set aside"
        for output in self._plan.outputs:
            if output.source in masked_before and output.mask is None:
                return (
                    f"column '{output.column.name}' is masked no more, but the row was set aside with its value masked"
                )
        return None

    def apply(self, batch: Batch, masked_before: frozenset[str] = frozenset()) -> Shaped:
        """Shape one batch. A column that the batch lacks is NULL; ROW, if there, comes out last.

        `masked_before`: columns that hold masked values already, of rows from the quarantine; see `lost`.
        """
        data, filtered = batch.data, 0
        rejects: list[Reject] = []
        if self._filter is not None:
            data, rejects, filtered = self._filtered(data, self._filter)
        work = Work(data, self._plan.taken, set(self._plan.hidden), masked_before, vouched=batch.vouched)
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
            rows, data = rows.filter(pc.invert(refused)), data.filter(pc.invert(refused))
        return Shaped(rows, rejects, filtered, data, None if self.lost(self.hidden) else self._reader(data))

    def _filtered(self, data: pa.RecordBatch, wanted: Expression) -> tuple[pa.RecordBatch, list[Reject], int]:
        work = Work(data, self._plan.taken, set(self._plan.hidden))
        keep = pc.fill_null(work.evaluated(wanted, "filter", private=False), False)
        rejects: list[Reject] = []
        if work.faults:
            refused = refused_rows(work.faults)
            rejects = rejects_of(work.faults, refused, self._reader(data))
            keep = pc.and_not(keep, refused)
        if keep.true_count == data.num_rows:
            return data, rejects, 0
        return data.filter(keep), rejects, data.num_rows - keep.true_count - len(rejects)

    def _made_of(self, column: Column, output: Output, work: Work) -> pa.Array:
        if output.expression is not None:
            rule = f"expression({column.name})"
            values = work.evaluated(output.expression, rule, private=output.mask is not None)
            private = output.mask is not None or work.reads_hidden(output.expression)
        else:
            assert output.source is not None, "an output has one origin"  # noqa: S101
            if output.mask is None and work.is_vouched(output.source, column.type):
                return work.read(output.source)
            values, private = work.read(output.source), output.mask is not None
        if output.mask is not None and output.source not in work.masked_before:
            values = masked(values, output.mask, self._mask_key)
        made = work.cast(column.name, values, column.type, private=private)
        if pa.types.is_string(made.type):
            json = column.type in ("json", "jsonb")
            work.refuse("nul_byte", rows_with_nul(made, json=json), f"column '{column.name}': text holds a NUL byte")
        return made

    def _marked(self, work: Work) -> pa.BooleanArray | None:
        """Return which rows the source marks as deleted; None where the stream follows no mark."""
        if self._mark is None:
            return None
        kind, name = self._mark
        if kind == "output":
            output = next(item for item in self._plan.outputs if item.column.name == name)
            return marked(self._made_of(output.column, output, work))
        column = self.source.get(name)
        return marked(work.cast(name, work.read(name), column.type if column else "text", private=True))

    def _look_for_null(self, arrays: list[pa.Array], work: Work, gone: pa.BooleanArray | None) -> None:
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

    def _look_for_unknown(self, work: Work) -> None:
        for item in self._unknown:
            name = item.column.name
            values = work.read(item.source) if item.source is not None else self._made_of(item.column, item, work)
            why = f"column '{name}' is not in the target and contract.columns is 'quarantine'; add it, or set 'evolve'"
            work.refuse(f"unknown_column({name})", values.is_valid(), why)

    @property
    def hidden(self) -> frozenset[str]:
        """Source columns that quarantine must show masked."""
        return frozenset(self._plan.hidden)

    def _reader(self, data: pa.RecordBatch) -> Callable[[pa.Array], list[Kept]]:
        """Return a reader of rows for quarantine: the taken source columns, hidden ones masked."""
        made = self._unnested.origins
        ids = data.column(REPLAYED_ID) if REPLAYED_ID in data.schema.names else None

        def read(indices: pa.Array) -> list[Kept]:
            numbers = ids.take(indices).to_pylist() if ids is not None else [None] * len(indices)
            found = read_from_lines(data.take(indices)) if LINE in data.schema.names else data
            taken = [n for n in found.schema.names if self._plan.taken.get(n) is not None and n not in made]
            hidden = tuple(name for name in taken if name in self._plan.hidden)
            rows = pa.Table.from_batches([found.select(taken)])
            rows = rows if found is not data else rows.take(indices)
            for place, name in enumerate(taken):
                if (mask := self._plan.hidden.get(name)) is not None:
                    rows = rows.set_column(
                        place, name, masked(rows.column(name).combine_chunks(), mask, self._mask_key)
                    )
            return [Kept(row, "read", hidden, number) for row, number in zip(json_rows(rows), numbers, strict=True)]

        return read
