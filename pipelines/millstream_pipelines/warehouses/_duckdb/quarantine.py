"""The way back of rows set aside, in the transaction of a replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import duckdb
import pyarrow as pa

from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.selection import Selection
from millstream_pipelines.warehouses import set_aside
from millstream_pipelines.warehouses._duckdb import stage
from millstream_pipelines.warehouses._duckdb.connection import rows as asked
from millstream_pipelines.warehouses._duckdb.connection import run
from millstream_pipelines.warehouses._duckdb.tables import SCHEMA
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.names import quote, quote_table
from millstream_pipelines.warehouses.row_json import message_text, storable
from millstream_pipelines.warehouses.set_aside import SetAside, Verdict

_ROWS = "millstream_replay"
_PLACE = "_millstream_place"


class DuckDBReplaying:
    """See `Replaying`. `plan`: made by `shape`, if it was called."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        spec: LoadSpec,
        plan: stage.StagePlan | None,
        translating: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._connection = connection
        self._spec = spec
        self._plan = plan
        self._translating = translating

    def take(self, selection: Selection, limit: int) -> list[SetAside]:
        """See `Replaying.take`. One process has the file, so there is nobody to lock out."""
        sizes = set_aside.take_sizes(selection, self._spec.run, 'strlen(CAST("row" AS text))')
        with self._translating("reading the quarantine"):
            ids = set_aside.within([(row[0], row[1]) for row in asked(self._connection, f"{sizes} LIMIT {limit:d}")])
            return set_aside.taken(asked(self._connection, set_aside.take_rows(ids))) if ids else []

    def superseded(self, rows: pa.RecordBatch) -> list[int]:
        """See `Replaying.superseded`."""
        plan, spec = self._plan, self._spec
        if plan is None or not spec.primary_key or not rows.num_rows:
            return []
        types = {column.name: plan.cast(column).rpartition(" AS ")[2] for column in plan.sent}

        def pair(name: str) -> tuple[str, str]:
            return quote(name), f"CAST(s.{quote(name)} AS {types[name]})"

        places = pa.array(range(rows.num_rows), pa.int64())
        query = set_aside.superseded_query(
            quote_table(spec.target, SCHEMA), _ROWS, _PLACE, [pair(name) for name in spec.primary_key],
            pair(plan.cursor) if plan.cursor else None,
        )  # fmt: skip
        with self._translating(f"comparing with {spec.target}"):
            self._connection.register(_ROWS, rows.append_column(_PLACE, places))
            found = asked(self._connection, query)
            self._connection.unregister(_ROWS)
        return sorted(int(row[0]) for row in found)

    def resolve(self, verdicts: Sequence[Verdict]) -> None:
        """See `Replaying.resolve`."""
        if not verdicts:
            return
        table = pa.table(
            {
                "id": [item.id for item in verdicts],
                "outcome": [item.outcome for item in verdicts],
                "why": [message_text(item.why) for item in verdicts],
                "rule": [storable(item.rule) for item in verdicts],
            }
        )
        with self._translating("closing quarantined rows"):
            self._connection.register(_ROWS, table)
            closed = run(
                self._connection,
                "UPDATE _millstream.quarantine AS q SET status = v.outcome, attempts = q.attempts + 1, replay_run = ?, "
                "rule = CASE WHEN v.outcome = 'open' THEN v.rule ELSE q.rule END, "
                "message = CASE WHEN v.outcome = 'open' THEN v.why ELSE q.message END, "
                "reason = CASE WHEN v.outcome = 'open' OR v.why = '' THEN q.reason ELSE v.why END, "
                "closed_at = CASE WHEN v.outcome = 'open' THEN NULL ELSE now() END, "
                "closed_by = CASE WHEN v.outcome = 'open' THEN NULL ELSE 'replay' END "
                f"FROM {_ROWS} v WHERE q.id = v.id AND q.status = 'open'",
                [self._spec.run],
            )
            self._connection.unregister(_ROWS)
        if closed != len(verdicts):
            raise MillstreamError(f"{closed} of {len(verdicts)} quarantined rows could be closed")
