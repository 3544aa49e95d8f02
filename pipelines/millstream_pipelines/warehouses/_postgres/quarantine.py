"""Rows set aside, in the transaction of the chunk they came with; and their way back, in that of a replay."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

from millstream_pipelines.batch import Reject
from millstream_pipelines.errors import MillstreamError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.raw_copy import HEADER, TRAILER
from millstream_pipelines.schema import Column, Schema
from millstream_pipelines.selection import Selection
from millstream_pipelines.warehouses import set_aside
from millstream_pipelines.warehouses._postgres.native import is_native
from millstream_pipelines.warehouses._postgres.stage import StagePlan
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.names import quote, quote_table
from millstream_pipelines.warehouses.row_json import message_text, row_text, storable
from millstream_pipelines.warehouses.set_aside import SetAside, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

_STAGE = "pg_temp.millstream_replay"
_PLACE = "_millstream_place"
COLUMNS = 'pipeline, stream, target, run, seq, rule, message, "row", status, form, masked'


def into(spec: LoadSpec, status: str = "open") -> str:
    """Return where rejects go: a slice's wait for its publication, but those of a refused chunk are never published."""
    waits = spec.shard is not None and spec.shard.index is not None and status != "refused"
    return f"_millstream.{'shard_rejects' if waits else 'quarantine'} ({COLUMNS})"


def insert(connection: Connection, spec: LoadSpec, seq: int, rejects: Iterable[Reject], status: str = "open") -> None:
    """Insert rejects of chunk `seq`; `status` is `open` or `refused`."""
    values = [
        (spec.pipeline, spec.stream, spec.target, spec.run, seq, storable(reject.rule), message_text(reject.message),
         row_text(reject.row), status, reject.form, json.dumps(reject.masked))
        for reject in rejects
    ]  # fmt: skip
    if values:
        with connection.cursor() as cursor:
            execute_values(cursor, f"INSERT INTO {into(spec, status)} VALUES %s", values, page_size=1000)
        reached("quarantined")


class PostgresReplaying:
    """See `Replaying`. `plan`: made by `shape`, if it was called."""

    def __init__(
        self,
        connection: Connection,
        spec: LoadSpec,
        plan: StagePlan | None,
        translating: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._connection = connection
        self._spec = spec
        self._sent = plan.sent if plan is not None else None
        self._translating = translating

    def take(self, selection: Selection, limit: int) -> list[SetAside]:
        """See `Replaying.take`."""
        sizes = set_aside.take_sizes(selection, self._spec.run, 'octet_length("row"::text)')
        with self._translating("reading the quarantine"), self._connection.cursor() as cursor:
            cursor.execute(f"{sizes} LIMIT {limit:d} FOR UPDATE SKIP LOCKED")
            ids = set_aside.within(cursor.fetchall())
            if not ids:
                return []
            cursor.execute(set_aside.take_rows(ids))
            return set_aside.taken(cursor.fetchall())

    def superseded(self, rows: pa.RecordBatch) -> list[int]:
        """See `Replaying.superseded`."""
        spec = self._spec
        if self._sent is None or not spec.primary_key or not rows.num_rows:
            return []
        import pyarrow as pa

        from millstream_pipelines.warehouses._postgres.encoding import encoded

        wanted = [column if is_native(column) else Column(column.name, "text") for column in self._sent]
        columns = Schema((*wanted, Column(_PLACE, "bigint")))
        table = ", ".join(f"{quote(column.name)} {column.type}" for column in columns)
        names = ", ".join(quote(name) for name in columns.names)
        placed = rows.append_column(_PLACE, pa.array(range(rows.num_rows), pa.int64()))
        cursor_field = spec.cursor_field if self._sent.get(spec.cursor_field or "") is not None else None

        def pair(name: str) -> tuple[str, str]:
            column = next(column for column in self._sent or () if column.name == name)
            return quote(name), f"s.{quote(name)}{'' if is_native(column) else f'::{column.type}'}"

        query = set_aside.superseded_query(
            quote_table(spec.target), _STAGE, quote(_PLACE), [pair(name) for name in spec.primary_key],
            pair(cursor_field) if cursor_field else None,
        )  # fmt: skip
        with self._translating(f"comparing with {spec.target}"), self._connection.cursor() as cursor:
            cursor.execute(f"CREATE TEMPORARY TABLE millstream_replay ({table}) ON COMMIT DROP")
            copied = io.BytesIO(HEADER + b"".join(encoded(placed, columns)) + TRAILER)
            cursor.copy_expert(f"COPY {_STAGE} ({names}) FROM STDIN (FORMAT binary)", copied)
            cursor.execute(query)
            places = sorted(int(row[0]) for row in cursor.fetchall())
            cursor.execute(f"DROP TABLE {_STAGE}")
        return places

    def resolve(self, verdicts: Sequence[Verdict]) -> None:
        """See `Replaying.resolve`."""
        values = [(v.id, v.outcome, storable(v.rule), message_text(v.why)) for v in verdicts]
        if not values:
            return
        with self._translating("closing quarantined rows"), self._connection.cursor() as cursor:
            execute_values(
                cursor,
                "UPDATE _millstream.quarantine q SET status = v.status, attempts = attempts + 1, replay_run = "
                + cursor.mogrify("%s", (self._spec.run,)).decode().replace("%", "%%")
                + ", rule = CASE WHEN v.status = 'open' THEN v.rule ELSE q.rule END, "
                "message = CASE WHEN v.status = 'open' THEN v.why ELSE message END, "
                "reason = CASE WHEN v.status = 'open' OR v.why = '' THEN reason ELSE v.why END, "
                "closed_at = CASE WHEN v.status = 'open' THEN NULL ELSE now() END, "
                "closed_by = CASE WHEN v.status = 'open' THEN NULL ELSE 'replay' END "
                "FROM (VALUES %s) AS v (id, status, rule, why) WHERE q.id = v.id AND q.status = 'open'",
                values,
                page_size=len(values),
            )
            if cursor.rowcount != len(values):
                raise MillstreamError(f"{cursor.rowcount} of {len(values)} quarantined rows could be closed")
