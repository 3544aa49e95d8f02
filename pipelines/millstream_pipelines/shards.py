"""A run in several processes: each stages its slice of every stream; who finds all slices staged publishes them.

Publication is the usual load of the stream, under its usual lease, in one transaction: readers see all slices or none.
Every step may be repeated: a slice that is staged is not read again, a stream that is published is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from millstream_api.stream import StreamSpec
from millstream_pipelines.accounting import Accounts
from millstream_pipelines.batch import Position
from millstream_pipelines.errors import ConfigurationError, MillstreamError
from millstream_pipelines.guarantee import guarantee
from millstream_pipelines.reconciling import Reconciler
from millstream_pipelines.row_checks import RowChecks
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.sources.base import FixesSlices, ReadRequest, Slice, Source, features_of
from millstream_pipelines.stream_run import StreamRun
from millstream_pipelines.warehouses.base import (
    Chunk,
    Counts,
    LoadSpec,
    Shard,
    StreamLoad,
    Warehouse,
    abilities_of,
    kind_of,
)
from millstream_pipelines.warehouses.sharding import Publication, Shards, ShardWarehouse, SliceLoad, Staged


def join(
    warehouse: Warehouse, source: Source, streams: Iterable[StreamSpec], pipeline: str, run: str, count: int
) -> Shards:
    """Join a run of `count` processes. ConfigurationError where something cannot be read or loaded in slices."""
    where, cure = f"pipeline '{pipeline}': extract.shards is {count}", "set extract.shards to 1"
    if not isinstance(warehouse, ShardWarehouse) or "shards" not in abilities_of(warehouse):
        raise ConfigurationError(
            f"{where}, and a warehouse of type '{kind_of(warehouse)}' takes a run from one process only; {cure}"
        )
    if "slice" not in features_of(source):
        raise ConfigurationError(f"{where}, and its source cannot be read in slices; {cure}")
    for stream in streams:
        nested = stream.nested.lists == "tables"
        kept = stream.write_disposition == "scd2" or stream.deletes.column or stream.deletes.reconcile_every
        if stream.mode != "full" or kept or nested:
            what = "mode incremental" if stream.mode != "full" else "nested tables" if nested else "scd2 or `deletes`"
            raise ConfigurationError(
                f"{where}, and stream '{stream.name}' has {what}, which one process loads; {cure}, or give the "
                "stream a pipeline of its own"
            )
    return warehouse.shards(pipeline, run, count)


class _Transient(Accounts):
    """Accounts of a slice: who publishes takes its rows out of the ledger, maybe before they could be compared."""

    def verify(self, entered: list[Chunk]) -> None:
        """See `Accounts.verify`."""


@dataclass
class SliceRun(StreamRun):
    """Stages one slice of a stream."""

    shard: Shard
    shards: Shards

    def __post_init__(self) -> None:
        super().__post_init__()
        self._accounts = _Transient("")

    def _decide(self, schema: Schema) -> Schema:
        """Go by what the first process has seen: all slices must agree on columns and files."""
        plan = self.shards.fix(self.stream.name, lambda: self._made(schema))
        self._slice = Slice(self.shard.index or 0, self.shard.count, plan["fixed"])
        return Schema(tuple(Column(*column) for column in plan["columns"]), tuple(plan["key"]))

    def _made(self, schema: Schema) -> dict[str, Any]:
        fixed = self.source.fix_slices(super()._request(None)) if isinstance(self.source, FixesSlices) else None
        columns = [[column.name, column.type, column.nullable] for column in schema]
        return {"columns": columns, "key": list(schema.primary_key), "fixed": fixed}

    def _load_spec(self) -> LoadSpec:
        return replace(super()._load_spec(), shard=self.shard)

    def _request(self, position: Position | None) -> ReadRequest:
        return replace(super()._request(None), slice=self._slice)

    def _judge(self, *, final: bool = False) -> None:
        """Budgets are about the whole stream; the publication judges them."""

    def _finish(self, load: StreamLoad, last: Position | None) -> None:
        if not isinstance(load, SliceLoad):
            raise MillstreamError("a warehouse with feature `shards` returns a SliceLoad for a slice")
        self._settle(load)
        load.found = self._bound.seen()
        self.result.checks = self._reported(self._bound.results())
        self._commit(load, last)


@dataclass
class PublicationRun(StreamRun):
    """Brings all staged slices of a stream into its target; reads nothing from the source."""

    shard: Shard

    def go(self) -> None:
        """See `StreamRun.go`."""
        load = self.warehouse.load(self._load_spec())
        try:
            self.result.guarantee, self.result.guarantee_reason = guarantee(
                self.stream, "exact", "all slices are published at once"
            )
            if load.already_done is None:
                self.progress.stage(self.stream.name, "load", f"publishing {self.shard.count} slices")
                self._publish(load)
        except BaseException:
            load.rollback()
            raise
        self.result.counts = load.run_counts()
        self._accounts.verify(load.chunks())
        self.progress.stage(self.stream.name, "done")

    def _load_spec(self) -> LoadSpec:
        return replace(super()._load_spec(), shard=self.shard)

    def _publish(self, load: StreamLoad) -> None:
        if not isinstance(load, Publication):
            raise MillstreamError("a warehouse with feature `shards` returns a Publication")
        slices = load.staged()
        if len(slices) != self.shard.count:
            raise ConfigurationError(
                f"stream '{self.stream.name}': {len(slices)} of {self.shard.count} slices are staged, and nothing was "
                "published; another run may have dropped them, start a new run"
            )
        target = load.shape(united(slices, f"stream '{self.stream.name}'"))
        checks = RowChecks(self.stream.checks, target, f"stream '{self.stream.name}'")
        for item in slices:
            checks.add(item.found)
        self._checks = checks
        self._reconciler = Reconciler(self.stream, load, self.options, self._mask_key())  # `deletes` is refused
        self._seen.took(sum((item.counts for item in slices), Counts()))
        self._finish(load, None)


def united(slices: Iterable[Staged], where: str) -> Schema:
    """Return all columns of the slices. ConfigurationError when one has other types in two of them."""
    columns: dict[str, tuple[Column, int]] = {}
    for item in slices:
        for column in item.columns:
            known, index = columns.setdefault(column.name, (column, item.index))
            if known.type != column.type:
                raise ConfigurationError(
                    f"{where}: column '{column.name}' is {known.type} in slice {index} and {column.type} in slice "
                    f"{item.index}; say its `type` under the stream's `columns`, and start a new run"
                )
    return Schema(tuple(column for column, _ in columns.values()))


def all_staged(shards: Shards, names: Iterable[str], count: int) -> bool:
    """Return whether every slice of every stream is staged, or published already."""
    staged = shards.staged()
    return all(staged.get(name, 0) >= count for name in names)
