"""The protocol of a warehouse: tables shaped to a contract, chunks in transactions fenced by a lease epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from millstream_api import RunReport
from millstream_api.pipeline import TransformSpec
from millstream_api.stream import Contract, Scd2
from millstream_pipelines.batch import Position, Reject
from millstream_pipelines.queries import TableQueries
from millstream_pipelines.schema import Schema
from millstream_pipelines.selection import Selection
from millstream_pipelines.warehouses.fitting import TableShape
from millstream_pipelines.warehouses.set_aside import Replaying

DONE = "_millstream_run"
"""In mode full the position says under this name which run has loaded the table."""

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class WarehouseInfo:
    """What a probe learns."""

    server_version: str
    metadata_version: int


@dataclass(frozen=True)
class Shard:
    """A part of a run in `count` processes: the slice of process `index`, or (None) what publishes all slices."""

    index: int | None
    count: int


@dataclass(frozen=True)
class LoadSpec:
    """What a stream's load is about. `pipeline` is `namespace/name`: the identity of its state."""

    pipeline: str
    stream: str
    run: str
    holder: str
    """Who loads: the pod or process. Two holders of one run are two attempts."""
    target: str
    mode: Literal["full", "incremental"]
    disposition: Literal["append", "replace", "merge", "scd2"]
    primary_key: tuple[str, ...] = ()
    contract: Contract = field(default_factory=Contract)
    cursor_field: str | None = None
    """Among rows of one key in one transaction the largest cursor wins, then the last read."""
    full_refresh: bool = False
    scd2: Scd2 = field(default_factory=Scd2)
    deletes: bool = False
    """Rows come with a last boolean column `batch.DELETED`, true where the source marks a key as gone."""
    sweeps: bool = False
    """In mode full: `SweepingLoad.sweep` is going to ask which keys were written."""
    origin: Literal["source", "quarantine"] = "source"
    """Where the rows come from; the ledger keeps it."""
    window: str | None = None
    """A backfill's window, the same text whenever the same window is loaded; None for every other load."""

    shard: Shard | None = None
    """Which part of a run in several processes this load is; None where the run is one process."""

    @property
    def state(self) -> str:
        """The stream's name in state, lease and ledger: a backfill and each slice have their own."""
        if self.window is not None:
            return f"{self.stream}@backfill"
        if self.shard is not None and self.shard.index is not None:
            return f"{self.stream}@shard-{self.shard.index}"
        return self.stream

    tags: tuple[str, ...] = ()
    """Tags of the target, as the stream has them."""

    numbered: bool = False
    """Rows come with a last bigint column ROW, unique in a transaction, by which the rows of children name them."""

    @property
    def merge_key(self) -> tuple[str, ...]:
        """The key that keeps rows single in the target; none where rows are only added."""
        return self.primary_key if self.disposition != "append" else ()


@dataclass(frozen=True)
class Counts:
    """Row counts; read = loaded + quarantined + duplicate + filtered."""

    read: int = 0
    loaded: int = 0
    quarantined: int = 0
    duplicate: int = 0
    filtered: int = 0
    bytes_read: int = 0
    deleted: int = 0
    """Rows taken out of the target, or whose validity ended. No part of the sum: their changes are in `loaded`."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Chunk:
    """A committed transaction of a stream, as the ledger has it. `seq` counts from 1 over all runs."""

    seq: int
    counts: Counts


@runtime_checkable
class StreamLoad(Protocol):
    """The load of one stream: owns the stream's lease; a transaction opens with the first write after a commit.

    A further attempt of the same run takes the lease over: whatever this one does next raises SupersededError, and
    nothing of its open transaction is committed. Another run must wait until this load's warehouse is closed or dead.
    """

    position: Position | None
    """The committed position to read from; None at first, with full_refresh, and in mode full."""

    already_done: Counts | None
    """In mode full: the counts of this same run if an earlier attempt has committed it; then nothing is left to do."""

    def shape(self, schema: Schema) -> Schema:
        """Make the target able to take rows of `schema` under the contract, and return the columns to send.

        The result holds the target's types: cast to them before `write`. Columns the contract discards are absent.
        Inside a transaction it may be called again with a schema that has all earlier columns and more; the rows
        written so far stay. After a rollback of such a transaction it must be called anew.
        Raises DataError when the contract forbids a change; the message names the column.
        """
        ...

    def write(self, rows: pa.RecordBatch, rejects: Iterable[Reject], counts: Counts) -> None:
        """Add checked rows (columns as `shape` returned them), quarantine rows, and the counts known so far.

        `counts` has read, filtered, quarantined and bytes_read of this batch, and duplicate as far as it is known; the
        warehouse finds out loaded and further duplicates. Without rows no shape is needed. A row that only the
        warehouse's own parser can refuse (an enum's label, a range) is set aside by the warehouse, under `cast(column)`
        and as `contract.rows` says, and counted by it.
        """
        ...

    def settle(self) -> Counts:
        """Bring everything written so far into the target (merge the stage) inside the open transaction.

        Returns the counts of the transaction. Set checks run after this and before `commit`.
        """
        ...

    def commit(self, position: Position | None) -> None:
        """Commit rows, quarantine, state, ledger at once. SupersededError when the lease was lost."""
        ...

    def rollback(self) -> None:
        """Undo what was not committed."""
        ...

    def record_refused(self, rejects: Iterable[Reject]) -> None:
        """Keep the rejects of a chunk that was refused as a whole, for triage, in a transaction of their own.

        Their status is `refused`: the rows are still at the source and will be read again, so nothing replays them.
        """
        ...

    def replaying(self) -> Replaying:
        """Return the stream's quarantine, for the open transaction; it opens one when there is none."""
        ...

    def run_counts(self) -> Counts:
        """Return the committed counts of this run over all its attempts, from the ledger."""
        ...

    def chunks(self) -> list[Chunk]:
        """Return what this attempt has committed, in order, from the ledger."""
        ...


@runtime_checkable
class SweepingLoad(StreamLoad, Protocol):
    """A load that can take out what the source has no more. With feature `deletes`, or `scd2` for mode full."""

    since_reconciled: timedelta | None
    """How long ago keys were compared last, by the warehouse's clock; None when they never were."""

    def remember(self) -> None:
        """Remember which rows the target has. To be called before the source's keys are read.

        `sweep` takes out none that comes or changes later, whoever brings it: the source may have it since.
        """
        ...

    def present(self, keys: pa.RecordBatch) -> None:
        """Note keys that the source has now: the columns of the primary key in its order, in the types of `shape`."""
        ...

    def sweep(self) -> int:
        """Take out, or end the validity of, remembered rows whose key was neither noted nor, with `sweeps`, written.

        All of it in the open transaction, after `settle`; `commit` follows. Returns how many rows. Raises DataError
        when nothing would be left (unless `full_refresh` consents), ConfigurationError when others load the table.
        """
        ...


WarehouseFeature = Literal["merge", "scd2", "deletes", "backfill", "shards", "children", "replay", "transforms", "tags"]


def kind_of(warehouse: Warehouse) -> str:
    """Return the `type` of a warehouse, for messages: its class variable `kind`, or the SQL it speaks."""
    return str(getattr(warehouse, "kind", warehouse.dialect))


def abilities_of(warehouse: Warehouse) -> frozenset[WarehouseFeature]:
    """Return what a warehouse can do beyond loading rows."""
    return getattr(warehouse, "features", frozenset())


@runtime_checkable
class Warehouse(TableQueries, Protocol):
    """A warehouse. Constructed with its validated `Config` and the name of its Warehouse (for messages).

    What else it can do is said by an optional class variable `features: frozenset[WarehouseFeature]`: `merge` (one
    row of each key, in a merge and in a replace), `scd2` (the history of keys), `deletes` (rows marked as deleted),
    `backfill` (a window's load is a BackfillLoad), `children` (a load is a ParentLoad), `replay` (rows set aside
    come back), `transforms`. A run asks for none that the warehouse does not name. `kind` is its type, for messages,
    where that is not the SQL it speaks.
    """

    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: BaseModel, owner: str) -> None: ...

    def probe(self) -> WarehouseInfo:
        """Connect, create or migrate `_millstream`, and say what is there."""
        ...

    def load(self, spec: LoadSpec) -> StreamLoad:
        """Take the stream's lease and return its load. RetriableError while another run holds it."""
        ...

    def materialize(self, spec: TransformSpec, checked: Any) -> int:
        """Build one transform and publish it at once; call `checked()` before the publication commits.

        Returns the number of rows in the result (0 for a view).
        """
        ...

    def shape_of(self, table: str, schema: Schema) -> TableShape | None:
        """Return the table as the catalog has it, names spelled as in `schema` where they mean the same; or None."""
        ...

    def explain_load(self, spec: LoadSpec, schema: Schema) -> list[str]:
        """Return the SQL that a load of `schema` would run, changing nothing."""
        ...

    def discard(self, selection: Selection, reason: str, who: str) -> int:
        """Give up quarantined rows that are open or refused, and return how many. They stay, with reason and time."""
        ...

    def record_run(self, pipeline: str, run: str, report: RunReport) -> None:
        """Keep the report of a run in `_millstream.runs`."""
        ...

    def close(self) -> None:
        """Release connections; an open transaction is rolled back."""
        ...
