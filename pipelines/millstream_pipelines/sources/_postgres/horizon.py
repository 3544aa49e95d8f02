"""The safe horizon: up to which cursor value no running transaction can still commit a row.

Ids and times are handed out when a row is written and become visible when its transaction commits: out of order. A
reader that takes `max(cursor)` as its position loses the smaller values that commit later. So:

1. `upper` = the largest visible value, in a snapshot of its own.
2. Look who holds a write lock on the table (its partitions and ancestors) now, and wait for those to end. An INSERT
   locks before it draws its id: whoever may still commit a value ≤ `upper` is among them, or has already committed.
3. A later snapshot reads position < cursor ≤ `upper`.

Ids (and text) are done with that. A time from now() is older: it is the start of its transaction, which may lock the
table only after step 2. For timestamptz the bound is therefore also below the start of every transaction that runs at
step 2; they are not waited for. A transaction shows up in pg_stat_activity a moment after its now(); that moment is
given `_SETTLE_S` to pass. `timestamp` says nothing about its zone, so all transactions are waited for, and where that
takes too long the bound falls back to the oldest start in the westernmost zone. `date` repeats its values all day: only
days that have ended everywhere are read, unless `lag` reads them again anyhow.

What it cannot know, and says in the guarantee: values made up by the application or taken in an earlier transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from millstream_pipelines.errors import RetriableError
from millstream_pipelines.sources._postgres.catalog import Relation
from millstream_pipelines.sources._postgres.connection import Control, literal
from millstream_pipelines.sources._postgres.cursor import Cursor

_SETTLE_S = 1.0  # far above the microseconds between a transaction's now() and its registration, even on a busy host
_POLL_S = (0.02, 0.5)
_WESTERNMOST = "Etc/GMT+12"

# Prepared transactions have no pid (0 here), and before 14.1 lose their virtual id: whoever is prepared while we wait
# stays in sight by that.
_WRITERS = """
SELECT DISTINCT l.virtualtransaction, COALESCE(l.pid, 0),
  CASE WHEN l.pid IS NULL THEN 'a prepared transaction' ELSE a.application_name END
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  AND CASE WHEN %(oid)s::oid IS NULL THEN l.relation >= 16384 ELSE l.relation IN (
    WITH RECURSIVE up(oid) AS (
      SELECT %(oid)s::oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.oid
    ), down(oid) AS (
      SELECT oid FROM up UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN down ON i.inhparent = down.oid
    ) SELECT oid FROM down) END
"""
# xact_start of other roles is hidden without pg_read_all_stats; the lock on the virtual id never is.
_RUNNING = """
SELECT l.virtualtransaction, l.pid, a.application_name, a.xact_start::text
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.virtualxid = l.virtualtransaction AND l.pid <> pg_backend_pid()
  AND a.datname = current_database() AND a.usesysid IS NOT NULL
  AND (a.backend_type IS NULL OR a.backend_type NOT IN ('walsender', 'parallel worker'))
"""

Transactions = dict[str, tuple[int, str, str | None]]
"""Virtual id → pid (0: prepared), application, start (None: hidden, prepared, or not asked)."""


@dataclass(frozen=True)
class Horizon:
    """Where an incremental read stops; `condition` is None when there is nothing to read."""

    condition: str | None


class HorizonFinder:
    """Finds the horizon of one stream's cursor."""

    def __init__(self, control: Control, relation: Relation, cursor: Cursor) -> None:
        self._control, self._relation, self._cursor = control, relation, cursor
        self._config = control.config
        self._parameters = {"oid": relation.oid if relation.kind == "table" else None}

    def find(self, watch: bool = True) -> Horizon:
        """Return the horizon. `watch` False: take the largest visible value, since its order is trusted."""
        cursor = self._cursor
        # A value ahead of every clock would become the position, and hide all that comes until then.
        limit = "clock_timestamp()" if cursor.kind == "timestamptz" else cursor.tomorrow
        capped = f"WHERE {cursor.sql} < {limit}" if limit is not None else ""
        now, upper = self._ask(
            f"SELECT clock_timestamp()::text, (SELECT max({cursor.sql})::text FROM {self._relation.origin} {capped})"
        )
        if upper is None:
            return Horizon(None)
        conditions = [f"{cursor.sql} <= {cursor.value(upper)}"]
        if watch:
            conditions += self._watched(now, upper)
        return Horizon(" AND ".join(conditions))

    def _watched(self, now: str, upper: str) -> list[str]:
        """Wait as the kind of cursor needs; return what still has to be excluded."""
        deadline = time.monotonic() + self._config.wait_for_writers_seconds
        if self._cursor.kind in ("number", "text"):
            left = self._wait(self._writers, deadline)
            if left:
                raise self._blocked(left)
            return []
        self._settle(now, upper)
        writers, running = self._writers(), self._running()
        by_zone = self._cursor.kind == "timestamptz" or self._config.cursor_time_zone is not None
        if by_zone or self._cursor.kind == "date":
            awaited = {key: running.get(key, item) for key, item in writers.items()}
            awaited |= {key: item for key, item in running.items() if item[2] is None}
        else:
            awaited = {**writers, **running}
        left = self._wait(lambda: {**self._writers(), **self._running()}, deadline, awaited)
        again = self._running()  # before the writers: who gets prepared in between is in one list or the other
        prepared = {key: item for key, item in self._writers().items() if item[0] == 0}
        rest = {**left, **prepared, **{key: item for key, item in again.items() if key in running}}
        hidden = {key: item for key, item in rest.items() if item[2] is None}
        if hidden:
            raise self._blocked(hidden)
        return self._below([start for _, _, start in rest.values() if start is not None], now)

    def _below(self, starts: list[str], now: str) -> list[str]:
        """Return the conditions that keep the read below the starts of running transactions."""
        kind, zone = self._cursor.kind, self._config.cursor_time_zone or _WESTERNMOST
        if kind == "date":
            if self._cursor.lag is not None:
                return []
            days = [f"({_stamp(item)} AT TIME ZONE {literal(zone)})::date" for item in [*starts, now]]
            return [f"{self._cursor.sql} < {day}" for day in days]
        if kind == "timestamp":
            ends = [*starts, now] if self._config.cursor_time_zone is not None else starts
            return [f"{self._cursor.sql} < ({_stamp(item)} AT TIME ZONE {literal(zone)})" for item in ends]
        return [f"{self._cursor.sql} < {_stamp(item)}" for item in starts]

    def _settle(self, now: str, upper: str) -> None:
        """Let transactions that had begun by `upper` come into sight."""
        if self._cursor.kind == "date":
            return
        age_s = 0.0
        if self._cursor.kind == "timestamptz":
            (age,) = self._ask(f"SELECT extract(epoch FROM clock_timestamp() - {_stamp(upper)})::float8")
            age_s = max(0.0, float(str(age)))
        time.sleep(max(0.0, _SETTLE_S - age_s))

    def _wait(
        self, look: Callable[[], Transactions], deadline: float, awaited: Transactions | None = None
    ) -> Transactions:
        """Wait until none of those seen first (or given) is seen any more; return those that are left."""
        left = look() if awaited is None else awaited
        pause_s = _POLL_S[0]
        while left:
            seen = look()
            prepared = {key: item for key, item in seen.items() if item[0] == 0}
            left = {key: seen[key] for key in left if key in seen} | prepared
            if not left or time.monotonic() >= deadline:
                break
            time.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
            pause_s = min(pause_s * 2, _POLL_S[1])
        return left

    def _blocked(self, left: Transactions) -> RetriableError:
        who = ", ".join(f"pid {pid} ({name})" if pid else name for pid, name, _ in list(left.values())[:5])
        hidden = any(start is None and pid for pid, _, start in left.values())
        timed = self._cursor.kind not in ("number", "text")
        user = self._config.user or "the user"
        cure = f'; or let it see when they began: GRANT pg_read_all_stats TO "{user}"' if timed and hidden else ""
        return RetriableError(
            f"{self._control.owner}: stream '{self._relation.name}': {len(left)} transaction(s) may still commit "
            f"values of '{self._cursor.column}' below the largest visible one and did not end within "
            f"{self._config.wait_for_writers_seconds:g} s: {who}; nothing was skipped. End them, or raise "
            f"waitForWritersSeconds{cure}",
            reason="WaitingForWriters",
        )

    def _writers(self) -> Transactions:
        rows = self._control.rows(_WRITERS, self._parameters, about=self._relation.name)
        return {key: (pid, name, None) for key, pid, name in rows}

    def _running(self) -> Transactions:
        rows = self._control.rows(_RUNNING, about=self._relation.name)
        return {key: (pid, name, start) for key, pid, name, start in rows}

    def _ask(self, sql: str) -> tuple[str, ...]:
        return self._control.rows(sql, about=self._relation.name)[0]


def _stamp(text: str) -> str:
    return f"{literal(text)}::timestamptz"


__all__ = ["Horizon", "HorizonFinder"]
