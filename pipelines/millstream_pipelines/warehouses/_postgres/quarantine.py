"""Rows set aside, in the transaction of the chunk they came with."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

from millstream_pipelines.batch import Reject
from millstream_pipelines.failpoints import reached
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.row_json import message_text, row_text, storable

COLUMNS = 'pipeline, stream, target, run, seq, rule, message, "row", status'


def into(spec: LoadSpec, status: str = "open") -> str:
    """Return where rejects go: a slice's wait for its publication, but those of a refused chunk are never published."""
    waits = spec.shard is not None and spec.shard.index is not None and status != "refused"
    return f"_millstream.{'shard_rejects' if waits else 'quarantine'} ({COLUMNS})"


def insert(connection: Connection, spec: LoadSpec, seq: int, rejects: Iterable[Reject], status: str = "open") -> None:
    """Insert rejects of chunk `seq`; `status` is `open` or `refused`."""
    values = [
        (spec.pipeline, spec.stream, spec.target, spec.run, seq, storable(reject.rule), message_text(reject.message),
         row_text(reject.row), status)
        for reject in rejects
    ]  # fmt: skip
    if values:
        with connection.cursor() as cursor:
            execute_values(cursor, f"INSERT INTO {into(spec, status)} VALUES %s", values, page_size=1000)
        reached("quarantined")
