"""The ledger: one row per committed chunk, with what came of each row that was read."""

from __future__ import annotations

from psycopg2.extensions import connection as Connection

from millstream_pipelines.errors import DataError
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.lease import Lease
from millstream_pipelines.warehouses.base import Chunk, Counts, LoadSpec


def require_balance(spec: LoadSpec, seq: int, counts: Counts) -> None:
    """Raise DataError when rows of chunk `seq` went nowhere, for example into a trigger that drops them."""
    gap = counts.read - counts.loaded - counts.quarantined - counts.duplicate - counts.filtered
    if gap:
        raise DataError(
            f"stream '{spec.stream}' chunk {seq}: {counts.read} rows were read but {gap} are not "
            f"accounted for ({counts}); nothing of it was committed",
            reason="AccountingGap",
        )


def enter(
    connection: Connection, spec: LoadSpec, lease: Lease, counts: Counts, content_hash: str, position: str | None
) -> None:
    """Enter the chunk that is about to be committed. `position` is JSON."""
    run(
        connection,
        "INSERT INTO _millstream.ledger (pipeline, stream, seq, run, epoch, target, read, loaded, quarantined, "
        "duplicate, filtered, bytes, deleted, content_hash, position, origin) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s)",
        (spec.pipeline, spec.state, lease.seq + 1, spec.run, lease.epoch, spec.target, counts.read, counts.loaded,
         counts.quarantined, counts.duplicate, counts.filtered, counts.bytes_read, counts.deleted, content_hash,
         position, spec.origin),
    )  # fmt: skip


def run_counts(connection: Connection, spec: LoadSpec) -> Counts:
    """Return what the run of `spec` has committed into its stream so far."""
    row = one(
        connection,
        """
        SELECT coalesce(sum(read), 0), coalesce(sum(loaded), 0), coalesce(sum(quarantined), 0),
               coalesce(sum(duplicate), 0), coalesce(sum(filtered), 0), coalesce(sum(bytes), 0),
               coalesce(sum(deleted), 0)
        FROM _millstream.ledger WHERE pipeline = %s AND stream = %s AND run = %s
        """,
        (spec.pipeline, spec.state, spec.run),
    )
    return Counts(*(int(value) for value in row))


def chunks(connection: Connection, spec: LoadSpec, epoch: int) -> list[Chunk]:
    """Return what the attempt with this epoch has committed, in order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq, read, loaded, quarantined, duplicate, filtered, bytes, deleted FROM _millstream.ledger "
            "WHERE pipeline = %s AND stream = %s AND epoch = %s ORDER BY seq",
            (spec.pipeline, spec.state, epoch),
        )
        return [Chunk(row[0], Counts(*row[1:])) for row in cursor.fetchall()]
