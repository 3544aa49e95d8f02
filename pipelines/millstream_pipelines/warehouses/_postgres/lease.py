"""The lease of one stream: who may commit. Two guards, for two questions.

Is a loader alive? A session-level advisory lock says so: the server drops it with the connection, so a dead loader's
lease is free at once. May this loader still commit? The epoch in `_millstream.state` says so: it is read when a
transaction opens and compared, under the row's lock, in the statement that commits the position. The row is locked
for that moment only, so an attempt that hangs inside a transaction cannot keep its successor out; one that sleeps in
that very moment is ended by its successor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_pipelines.errors import ConfigurationError, RetriableError, SupersededError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.warehouses._postgres.connection import one, run
from millstream_pipelines.warehouses.base import LoadSpec

_MINE = "(pipeline, stream) = (%s, %s)"
_COMMIT_S = 1.0  # far above what the statement that fences and the commit behind it take
_NUMBER = "hashtextextended(%s, 0)"


class Lease:
    """A stream's lease. `connect` returns the warehouse's connection, opened anew when it was lost."""

    def __init__(self, connect: Callable[[], Connection], spec: LoadSpec) -> None:
        self._connect = connect
        self._connection = connect()
        self._spec = spec
        self._key = (spec.pipeline, spec.state)
        self._lock = ("millstream/" + "/".join(self._key),)
        self._alone = False
        self.epoch = 0
        self.seq = 0

    def take(self) -> Any:
        """Take the lease and return the committed position. RetriableError while another run's loader lives."""
        spec, connection = self._spec, self._connection
        self._try_lock()
        connection.commit()
        reached("lock-asked")
        mine = f"SELECT run, holder FROM _millstream.state WHERE {_MINE}"
        seen = one(connection, mine, self._key)
        if seen is None:  # only then: an INSERT waits for whoever is changing the row, even when it then does nothing
            run(connection, "INSERT INTO _millstream.state (pipeline, stream) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                self._key)  # fmt: skip
            seen = one(connection, mine, self._key)
        if not self._alone and seen[0] != spec.run:
            who = f"run '{seen[0]}' ({seen[1]})" if seen[0] else "another run"
            raise RetriableError(
                f"stream '{spec.stream}': {who} is loading it now; this run waits for its turn",
                reason="StreamBusy",
            )
        if not self._alone:
            self._wait_for_row()
        if spec.full_refresh and spec.mode == "incremental":
            self._forget_position()
        self.epoch, self.seq, committed = one(
            connection,
            "UPDATE _millstream.state SET epoch = epoch + 1, run = %s, holder = %s, renewed_at = now() "
            f"WHERE {_MINE} RETURNING epoch, seq, position",
            (spec.run, spec.holder, *self._key),
        )
        connection.commit()
        if not self._alone:
            self._end_predecessor()
        return committed

    def verify(self) -> None:
        """Open a transaction as the holder. SupersededError when another attempt has taken over."""
        if not self._alone:
            self._try_lock()
        if self._epoch_of(self._connection) != self.epoch:
            raise self.superseded()

    def hold(self) -> None:
        """Be the holder until the open transaction ends: a successor waits for that. SupersededError for any other."""
        row = one(self._connection, f"SELECT epoch FROM _millstream.state WHERE {_MINE} FOR UPDATE", self._key)
        if row is None or int(row[0]) != self.epoch:
            raise self.superseded()

    def advance(self, position: str | None) -> None:
        """Count one more chunk and its position (JSON, None keeps the old): the statement that fences."""
        moved = run(
            self._connection,
            "UPDATE _millstream.state SET seq = seq + 1, position = coalesce(%s::jsonb, position), renewed_at = now() "
            f"WHERE {_MINE} AND epoch = %s AND seq = %s",
            (position, *self._key, self.epoch, self.seq),
        )
        if moved != 1:
            raise self.superseded()

    def was_overtaken(self) -> bool:
        """Return whether a lost connection was a successor's doing; False when nobody can tell."""
        try:
            connection = self._connect()
            found = self._epoch_of(connection)
            connection.rollback()
        except Exception:  # the server is away: then the loss itself is the news
            return False
        # Before the lease is taken there is nothing to take over; a smaller epoch is ours, its commit lost on the way.
        return bool(self.epoch) and found is not None and found > self.epoch

    def superseded(self) -> SupersededError:
        """Return the error of an attempt that must stop."""
        return SupersededError(
            f"stream '{self._spec.stream}': another attempt has taken over from {self._spec.holder}; "
            "this one stops and loses nothing"
        )

    def _epoch_of(self, connection: Connection) -> int | None:
        row = one(connection, f"SELECT epoch FROM _millstream.state WHERE {_MINE}", self._key)
        return None if row is None else int(row[0])

    def _try_lock(self) -> None:
        self._alone = bool(one(self._connection, f"SELECT pg_try_advisory_lock({_NUMBER})", self._lock)[0])

    def _wait_for_row(self) -> None:
        """Lock the state's row; end an attempt that holds it for longer than a commit takes, since it sleeps.

        Whether its commit came through shows when the row is read.
        """
        lock = f"SELECT 1 FROM _millstream.state WHERE {_MINE} FOR UPDATE SKIP LOCKED"
        until = time.monotonic() + _COMMIT_S
        while one(self._connection, lock, self._key) is None:
            if time.monotonic() >= until:
                self._end_row_holder()
                break
            time.sleep(0.05)

    def _end_row_holder(self) -> None:
        try:
            run(
                self._connection,
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks l, _millstream.state s "
                "WHERE (s.pipeline, s.stream) = (%s, %s) AND l.locktype = 'transactionid' AND l.granted "
                "AND l.transactionid = s.xmax AND l.pid <> pg_backend_pid()",
                self._key,
            )
        except psycopg2.errors.InsufficientPrivilege:  # it logged in as another role; taking the row waits for it
            self._connection.rollback()

    def _end_predecessor(self) -> None:
        """End the overtaken attempt's open transaction: its locks on the target would keep us waiting for nothing.

        One that is between transactions is left alone; it learns of its fate when it opens the next.
        """
        try:
            run(
                self._connection,
                f"""
                SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
                WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = current_database()
                  AND ((l.classid::bigint << 32) | l.objid::bigint) = {_NUMBER}
                  AND l.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
                """,
                self._lock,
            )
            self._connection.commit()
        except psycopg2.errors.InsufficientPrivilege:  # the attempt before logged in as another role; the epoch fences
            self._connection.rollback()

    def _forget_position(self) -> None:
        if self._spec.disposition == "append":
            raise ConfigurationError(
                f"stream '{self._spec.stream}': a full refresh with writeDisposition 'append' would load every row "
                "again; use 'merge' with a primaryKey, or mode 'full' with 'replace'"
            )
        run(
            self._connection,
            f"UPDATE _millstream.state SET position = NULL, refresh_run = %s WHERE {_MINE} "
            "AND refresh_run IS DISTINCT FROM %s",
            (self._spec.run, *self._key, self._spec.run),
        )
