"""The load of one stream that can also take out what the source has no more."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.warehouses._postgres import stage, sweeping
from millstream_pipelines.warehouses._postgres.load import PostgresLoad
from millstream_pipelines.warehouses.base import Counts

if TYPE_CHECKING:
    import pyarrow as pa


class PostgresSweepingLoad(PostgresLoad):
    """See `SweepingLoad`."""

    _young: int | None = None

    def _reset(self) -> None:
        super()._reset()
        self._swept = False

    def remember(self) -> None:
        """See `SweepingLoad.remember`."""
        with self._working("looking what the target has") as connection:
            self._young = sweeping.first_young(connection)

    @property
    def since_reconciled(self) -> timedelta | None:
        """See `SweepingLoad.since_reconciled`."""
        with self._translating("reading the state"):
            self.pause()
            age = sweeping.age(self._connection, self._spec)
            if not self._open:
                self._connection.commit()
        return age

    def present(self, keys: pa.RecordBatch) -> None:
        """See `SweepingLoad.present`."""
        with self._translating("noting keys"):
            sweeping.note(self._connection, self._ready(), keys)

    def sweep(self) -> int:
        """See `SweepingLoad.sweep`."""
        if self._young is None:
            raise MillstreamError("remember() comes before sweep()")
        with self._translating(f"taking absent rows out of {self._spec.target}"):
            deleted = sweeping.sweep(self._connection, self._ready(), self._spec, self._young)
        self._counts = self._counts + Counts(deleted=deleted)
        self._swept = True
        return deleted

    def _ready(self) -> stage.StagePlan:
        if self._plan is None:
            raise MillstreamError("shape() comes first")
        if not self._open:
            self._begin()
        self.pause()
        return self._plan

    def _staged(self, plan: stage.StagePlan) -> None:
        if self._spec.sweeps:
            sweeping.note_staged(self._connection, plan)

    def _enter(self, counts: Counts, position: str | None) -> None:
        super()._enter(counts, position)
        if self._swept:
            sweeping.note_time(self._connection, self._spec)
