"""What the processes of a run know of each other: tables of `_millstream`, and two advisory locks.

A process holds the run's lock, shared: while one does, the run is alive. What publishes holds the run's second lock.
Neither guards any row: that is the leases' part. A run none of whose processes is alive may still be waiting for its
Job to start one again, so its stages are left alone for `_DEAD_AFTER`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2.extensions import connection as Connection

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.warehouses._postgres.connection import one, run, translating
from millstream_pipelines.warehouses.base import Counts
from millstream_pipelines.warehouses.names import quote

_DEAD_AFTER = "15 minutes"  # a Job waits at most six between the attempts of a pod
_KEPT = "30 days"
_POLL_S = 0.5
_MINE = "pipeline = %s AND run = %s"


def stage_prefix(pipeline: str, run_name: str, stream: str | None = None) -> str:
    """Return what the names of a run's (or of one of its stream's) stages begin with."""
    parts = [_short(f"{pipeline}/{run_name}"), *([_short(stream)] if stream is not None else [])]
    return "_".join(["stage", *parts]) + "_"


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def drop_stages(connection: Connection, prefix: str) -> None:
    """Drop the stages whose names begin so, in the open transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = '_millstream'::regnamespace "
            "AND c.relkind = 'r' AND starts_with(c.relname, %s)",
            (prefix,),
        )
        names = [row[0] for row in cursor.fetchall()]
    for name in names:
        run(connection, f"DROP TABLE IF EXISTS _millstream.{quote(name)}")


class PostgresShards:
    """See `Shards`."""

    def __init__(self, connect: Callable[[], Connection], owner: str, pipeline: str, run_name: str, count: int) -> None:
        self._connect, self._owner = connect, owner
        self._pipeline, self._run, self._count = pipeline, run_name, count
        self._mine = (pipeline, run_name)
        with translating(owner, "joining the run"):
            self._join()
            self._sweep()

    def _join(self) -> None:
        connection = self._connect()
        run(connection, "SELECT pg_advisory_lock_shared(hashtextextended(%s, 2))", (self._lock(self._run),))
        run(
            connection,
            "INSERT INTO _millstream.shard_runs (pipeline, run, shards) VALUES (%s, %s, %s) "
            "ON CONFLICT (pipeline, run) DO UPDATE SET seen_at = now()",
            (*self._mine, self._count),
        )
        shards, finished, dropped = one(
            connection, f"SELECT shards, finished_at, dropped_at FROM _millstream.shard_runs WHERE {_MINE}", self._mine
        )
        connection.commit()
        if dropped is not None:
            raise ConfigurationError(
                f"run '{self._run}': a later run has dropped its staged slices, since none of its processes was seen "
                f"for {_DEAD_AFTER}; start a new run"
            )
        if shards != self._count:
            raise ConfigurationError(
                f"run '{self._run}' began with {shards} shards and now has {self._count}; start a new run"
            )
        self.finished = finished is not None

    def _lock(self, run_name: str) -> str:
        return f"millstream/{self._pipeline}/{run_name}"

    def _sweep(self) -> None:
        """Drop the stages of earlier runs of this pipeline that are dead; leave a mark for whom of them comes back."""
        connection = self._connect()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT run FROM _millstream.shard_runs WHERE pipeline = %s AND run <> %s AND finished_at IS NULL "
                "AND dropped_at IS NULL AND seen_at < now() - %s::interval",
                (self._pipeline, self._run, _DEAD_AFTER),
            )
            others = [row[0] for row in cursor.fetchall()]
        for other in others:
            alone = one(connection, "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 2))", (self._lock(other),))
            if alone[0]:
                place = (self._pipeline, other)
                self._clear(connection, other)
                run(connection, f"UPDATE _millstream.shard_runs SET dropped_at = now() WHERE {_MINE}", place)
            connection.commit()
        run(
            connection,
            "DELETE FROM _millstream.shard_runs WHERE pipeline = %s AND coalesce(finished_at, dropped_at) "
            "< now() - %s::interval",
            (self._pipeline, _KEPT),
        )
        connection.commit()

    def _clear(self, connection: Connection, run_name: str) -> None:
        drop_stages(connection, stage_prefix(self._pipeline, run_name))
        for table in ("shards", "shard_plans", "shard_rejects"):
            run(connection, f"DELETE FROM _millstream.{table} WHERE {_MINE}", (self._pipeline, run_name))

    def fix(self, stream: str, made: Callable[[], Any]) -> Any:
        """See `Shards.fix`."""
        key = (self._pipeline, stream, self._run)
        with translating(self._owner, "agreeing on the slices"):
            connection = self._connect()
            query = "SELECT plan FROM _millstream.shard_plans WHERE pipeline = %s AND stream = %s AND run = %s"
            found = one(connection, query, key)
            connection.commit()
            if found is None:
                run(
                    connection,
                    "INSERT INTO _millstream.shard_plans (pipeline, stream, run, plan) VALUES (%s, %s, %s, %s::jsonb) "
                    "ON CONFLICT DO NOTHING",
                    (*key, json.dumps(made())),
                )
                connection.commit()
                found = one(connection, query, key)
                connection.commit()
        return found[0]

    def published(self, stream: str) -> Counts:
        """See `Shards.published`."""
        with translating(self._owner, "reading the ledger"):
            connection = self._connect()
            row = one(
                connection,
                "SELECT coalesce(sum(read), 0), coalesce(sum(loaded), 0), coalesce(sum(quarantined), 0), "
                "coalesce(sum(duplicate), 0), coalesce(sum(filtered), 0), coalesce(sum(bytes), 0) "
                f"FROM _millstream.ledger WHERE {_MINE} AND stream = %s",
                (*self._mine, stream),
            )
            connection.commit()
        return Counts(*(int(value) for value in row))

    def staged(self) -> dict[str, int]:
        """See `Shards.staged`."""
        with translating(self._owner, "counting the slices"):
            connection = self._connect()
            with connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT stream, count(*) FROM _millstream.shards WHERE {_MINE} GROUP BY stream UNION ALL "
                    "SELECT stream, %s FROM _millstream.state WHERE pipeline = %s "
                    "AND position = jsonb_build_object('_millstream_run', %s::text) AND stream !~ '@shard-[0-9]+$'",
                    (*self._mine, self._count, *self._mine),
                )
                found = dict(cursor.fetchall())
            connection.commit()
        return {stream: int(number) for stream, number in found.items()}

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """See `Shards.publishing`."""
        lock = (f"{self._lock(self._run)}/publishing",)
        with translating(self._owner, "waiting to publish"):
            connection = self._connect()
            while not one(connection, "SELECT pg_try_advisory_lock(hashtextextended(%s, 2))", lock)[0]:
                connection.commit()
                time.sleep(_POLL_S)
            connection.commit()
        try:
            self.finished = self._is_finished()
            yield
        finally:
            if not connection.closed:
                connection.rollback()
                run(connection, "SELECT pg_advisory_unlock(hashtextextended(%s, 2))", lock)
                connection.commit()

    def _is_finished(self) -> bool:
        connection = self._connect()
        found = one(connection, f"SELECT finished_at FROM _millstream.shard_runs WHERE {_MINE}", self._mine)
        connection.commit()
        return found is not None and found[0] is not None

    def finish(self) -> None:
        """See `Shards.finish`."""
        with translating(self._owner, "finishing the run"):
            connection = self._connect()
            run(connection, f"UPDATE _millstream.shard_runs SET finished_at = now() WHERE {_MINE}", self._mine)
            self._clear(connection, self._run)  # a retry may have staged anew what was published already
            connection.commit()
        self.finished = True
