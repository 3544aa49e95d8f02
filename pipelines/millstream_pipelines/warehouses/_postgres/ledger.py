"""The ledger: one row per committed chunk, with what came of each row that was read."""

from __future__ import annotations

from psycopg2.extensions import connection as Connection

from millstream_pipelines.child_names import SEPARATOR
from millstream_pipelines.errors import DataError
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses._postgres.lease import Lease
from millstream_pipelines.warehouses.base import Chunk, Counts, LoadSpec

_SUMS = ", ".join(
    f"coalesce(sum({name}), 0)"
    for name in ("read", "loaded", "quarantined", "duplicate", "filtered", "bytes", "deleted")
)


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
        f"SELECT {_SUMS} FROM _millstream.ledger WHERE pipeline = %s AND stream = %s AND run = %s",
        (spec.pipeline, spec.state, spec.run),
    )
    return Counts(*(int(value) for value in row))


def child_counts(connection: Connection, spec: LoadSpec) -> dict[tuple[str, str], Counts]:
    """Return what the run of `spec` has committed into child tables of its stream so far."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT stream, target, {_SUMS} FROM _millstream.ledger WHERE pipeline = %s AND run = %s "
            "AND starts_with(stream, %s) AND starts_with(target, %s) GROUP BY stream, target ORDER BY stream",
            (spec.pipeline, spec.run, f"{spec.stream}/", f"{spec.target}{SEPARATOR}"),
        )
        return {(row[0], row[1]): Counts(*(int(value) for value in row[2:])) for row in cursor.fetchall()}


def chunks(connection: Connection, spec: LoadSpec, epoch: int) -> list[Chunk]:
    """Return what the attempt with this epoch has committed, in order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq, read, loaded, quarantined, duplicate, filtered, bytes, deleted FROM _millstream.ledger "
            "WHERE pipeline = %s AND stream = %s AND epoch = %s ORDER BY seq",
            (spec.pipeline, spec.state, epoch),
        )
        return [Chunk(row[0], Counts(*row[1:])) for row in cursor.fetchall()]
