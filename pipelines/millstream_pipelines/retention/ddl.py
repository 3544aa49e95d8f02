"""Changes of tables that never hold up others for longer than the lock time-out: tried again until they get through.

A statement that waits for a strong lock holds up everybody who comes after it. So each try waits for `lock_timeout`
at most, gives its place in the queue back, and comes again a little later. What must hold such a lock for a while
(`briefly`) is taken back where that takes longer.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from millstream_pipelines.errors import RetriableError
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig, connect, translated

_LOCKED = ("55P03", "40P01")  # lock not available, deadlock
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0
_TOO_LONG = 5  # times that a change may be taken back; each time everybody waits
_BETWEEN_LOOKS_S = 1.0
_PATIENCE_S = 120.0  # longer than almost every query; what waits longer goes on at the policy's next run

_BLOCKERS = """
SELECT string_agg(format('pid %%s (%%s, since %%s): %%s', pid, usename, xact_start::timestamp(0), left(query, 60)),
  '; ')
FROM pg_stat_activity WHERE pid IN (
  SELECT pid FROM pg_locks WHERE relation = ANY(%(of)s::regclass[]::oid[]) AND granted AND pid <> pg_backend_pid())
UNION ALL
SELECT string_agg(DISTINCT format('prepared transaction %%L (%%s, since %%s), for COMMIT PREPARED or ROLLBACK PREPARED',
  x.gid, x.owner, x.prepared::timestamp(0)), '; ')
FROM pg_locks l
JOIN pg_locks own ON own.virtualtransaction = l.virtualtransaction AND own.locktype = 'transactionid'
JOIN pg_prepared_xacts x ON x.transaction = own.transactionid
WHERE l.relation = ANY(%(of)s::regclass[]::oid[]) AND l.pid IS NULL
"""
# PostgreSQL itself ends an autovacuum that somebody has waited for as long as this, unless it must protect the data. It
# belongs to no role.
_VACUUM = """
SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout' AND EXISTS (
  SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
  WHERE l.relation = ANY(%s::regclass[]::oid[]) AND l.granted AND a.usesysid IS NULL)
"""
_MOMENT_MS = 250  # in which it ends


# A role's limits are for what people ask. What works through a table takes as long as the table is large, and where it
# holds up others, it has limits of its own.
UNLIMITED = """
SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN (
  'statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')
"""


def session(config: PostgresConfig, owner: str) -> Connection:
    """Open a connection, as `connect` does, to which the role's limits of time do not apply."""
    connection = connect(config, owner)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(UNLIMITED)
        connection.autocommit = False
    except psycopg2.Error as error:
        raise translated(error, owner, "asking the warehouse") from error
    return connection


class _HeldTooLongError(Exception):
    """A transaction held its locks for longer than others shall wait."""


class Ddl:
    """One connection in autocommit, as DETACH CONCURRENTLY needs it. `waited_s`: time spent waiting for locks."""

    def __init__(
        self, config: PostgresConfig, owner: str, lock_timeout_s: float, patience_s: float = _PATIENCE_S
    ) -> None:
        self.owner, self.waited_s = owner, 0.0
        self._timeout_ms, self.patience_s = max(1, int(lock_timeout_s * 1000)), patience_s
        self.connection: Connection = session(config, owner)
        self.connection.autocommit = True

    def __enter__(self) -> Ddl:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def rows(self, sql: str, arguments: Any = None) -> list[tuple[Any, ...]]:
        """Ask, and return the rows. Errors of the server leave it as ours."""
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(sql, arguments)
                return list(cursor.fetchall()) if cursor.description else []
        except psycopg2.Error as error:
            raise translated(error, self.owner, "asking the warehouse") from error

    def alone(self, doing: str, statement: str | Callable[[], str | None], tables: tuple[str, ...] = ()) -> None:
        """Run a statement that allows no transaction around it. See `together`.

        A function is asked for it anew at each try; None from it means that nothing is left to do.
        """

        def action() -> None:
            found = statement if isinstance(statement, str) else statement()
            self._execute([found] if found else [])

        self._patiently(doing, tables, action)

    def together(self, doing: str, statements: list[str], tables: tuple[str, ...] = ()) -> None:
        """Run statements in one transaction; again from its start where a lock was not to be had in time.

        `doing` and `tables` (quoted) are for the message: RetriableError names who holds the locks, and nothing is
        changed then.
        """
        self.transaction(doing, lambda: self._execute(statements), tables)

    def transaction(self, doing: str, action: Callable[[], None], tables: tuple[str, ...] = ()) -> None:
        """Run an action in one transaction; see `together`. What it raises rolls back and is raised."""
        self._patiently(doing, tables, lambda: self._in_transaction(action))

    def _in_transaction(self, action: Callable[[], None]) -> None:
        self._execute(["BEGIN"])
        try:
            action()
            self._execute(["COMMIT"])
        except BaseException:
            if not self.connection.closed:
                self._execute(["ROLLBACK"])
            raise

    def _execute(self, statements: list[str]) -> None:
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def execute(self, statement: str, arguments: Any = None) -> None:
        """Run one statement of a transaction's action; the server's errors stay the driver's."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, arguments)

    def at_once(self, statements: Iterable[str]) -> None:
        """Run statements of a transaction's action in one go: no lock is held for the ways to the server and back."""
        self.execute(";\n".join(statements))

    @contextmanager
    def briefly(self) -> Iterator[None]:
        """End the rest of a transaction's action, which has its locks, after the lock time-out; it is tried again."""
        ended = threading.Event()

        def end() -> None:
            ended.set()
            self.connection.cancel()

        timer = threading.Timer(self._timeout_ms / 1000, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if ended.is_set() and isinstance(error.__cause__ or error, psycopg2.errors.QueryCanceled):
                raise _HeldTooLongError from error
            raise
        finally:
            timer.cancel()
            timer.join()  # so that it ends no statement that comes later
        if ended.is_set():  # between two statements, where there was nothing to be ended
            raise _HeldTooLongError

    def _patiently(self, doing: str, tables: tuple[str, ...], action: Callable[[], None]) -> None:
        deadline = time.monotonic() + self.patience_s
        wait_s, timeout_ms, too_long = _FIRST_WAIT_S, self._timeout_ms, 0
        while True:
            started = time.monotonic()
            try:
                self._execute([f"SET lock_timeout = {timeout_ms}"])
                action()
            except psycopg2.Error as error:
                self.waited_s += time.monotonic() - started
                if error.pgcode not in _LOCKED:
                    raise translated(error, self.owner, doing) from error
                if time.monotonic() >= deadline:
                    raise RetriableError(self._refused(doing, tables), reason="TableLocked") from error
            except _HeldTooLongError as error:
                self.waited_s += time.monotonic() - started
                too_long += 1
                if too_long == _TOO_LONG:
                    raise RetriableError(self._too_long(doing), reason="TableLocked") from error
            else:
                return
            # A shorter wait would never get past one, and would hold up everybody again and again for nothing.
            vacuum = self.rows(_VACUUM, (list(tables),)) if tables else []
            timeout_ms = max(self._timeout_ms, vacuum[0][0] + _MOMENT_MS) if vacuum else self._timeout_ms
            time.sleep(wait_s * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)

    def _refused(self, doing: str, tables: tuple[str, ...]) -> str:
        rows = self.rows(_BLOCKERS, {"of": list(tables)}) if tables else []
        found = "; ".join(row[0] for row in rows if row[0])
        who = f"held by {found}" if found else "whoever held it has gone meanwhile"
        return (
            f"{self.owner}: {doing}: the lock was not to be had in {self.patience_s:.0f} s, {self._timeout_ms} ms "
            f"at a time; {who}. Nothing was changed; the next run tries again"
        )

    def _too_long(self, doing: str) -> str:
        return (
            f"{self.owner}: {doing}: everybody waits meanwhile, and {_TOO_LONG} times it took longer than lockTimeout "
            f"({self._timeout_ms} ms), so it was taken back. Nothing was changed; the next run tries again. Let it run "
            "when the warehouse is quiet, allow it more with lockTimeout, or choose a longer partitionBy.interval"
        )


@contextmanager
def alone(ddl: Ddl, table: str, patience_s: float = 0.0) -> Iterator[None]:
    """Keep other runs and restores off this table; RetriableError when one is still at it after `patience_s`."""
    name = f"millstream retention {table if '.' in table else f'public.{table}'}"
    deadline = time.monotonic() + patience_s
    # Asked again and again: one that waited inside PostgreSQL would hold a snapshot, and with it the other's detach.
    while not ddl.rows("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,))[0][0]:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            waited = f" after {patience_s:.0f} s" if patience_s else ""
            raise RetriableError(
                f"{ddl.owner}: another run works on table {table}; this one leaves it alone{waited}", reason="TableBusy"
            )
        time.sleep(min(left_s, _BETWEEN_LOOKS_S * random.uniform(0.5, 1.5)))  # noqa: S311 - not a secret
    try:
        yield
    finally:
        if not ddl.connection.closed:
            ddl.rows("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))


__all__ = ["UNLIMITED", "Ddl", "alone", "session"]
