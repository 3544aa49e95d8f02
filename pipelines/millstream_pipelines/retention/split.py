"""The old range of a table that was turned is split into partitions, step by step, while it is read and written.

Each call goes on where the last one stopped or died: `_millstream.conversions` has the state, which changes in the
transaction of what it tells. attached → prepared → copying → indexed → switched → ended; `whole`: it cannot be split.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.errors import DataError, MillstreamError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention import conversion_sql, keys_out
from millstream_pipelines.retention.conversions import conversion
from millstream_pipelines.retention.copying import AlteredError, Copying
from millstream_pipelines.retention.ddl import Ddl, alone
from millstream_pipelines.retention.keeping_up import lacking
from millstream_pipelines.retention.keys_in import finish
from millstream_pipelines.retention.ondemand import full_name
from millstream_pipelines.retention.plain_reading import bare_path, read_shape
from millstream_pipelines.retention.snapshots import wait_for_older
from millstream_pipelines.warehouses.names import quote, quote_table

_SHORT = 1000  # noted rows that may wait for the lock
_ROUNDS = 20
_ANEW = 3  # times that a copy is begun in one call


def advance(
    ddl: Ddl, table: str, by: PartitionBy, budget_s: float, grace: timedelta | None = timedelta(days=7),
    now: datetime | None = None,
) -> str:  # fmt: skip
    """Go on with the split for about `budget_s` seconds; return what was done, an empty text for nothing.

    `grace`: how long after the switch the old table is dropped; None: not by this call.

    One step (indexes, comparison) may take longer. RetriableError: a lock was not to be had. DataError: the copy is
    not equal to the old rows; it is thrown away and begun anew by the next call. Nothing is lost by any of them.
    """
    name = full_name(table)
    with alone(ddl, name):
        ddl.rows("SET row_security = off")  # rather an error than rows that are not seen
        found = conversion(ddl, name)
        if found is None or found.state in ("checking", "ended", "whole"):
            return found.note if found is not None and found.state == "whole" else ""
        return _Split(ddl, name, by, found, now or datetime.now(UTC)).go(time.monotonic() + budget_s, grace)


class _LookAgainError(Exception):
    """Somebody has altered the table in a way that the copy can follow."""


class _Split(Copying):
    """The steps in their order."""

    _node: int | None = None
    """The old range's file when it was compared."""

    def go(self, deadline: float, grace: timedelta | None) -> str:
        if self.found.state == "switched":
            return self._end(grace)
        finish(self.ddl, self.name)
        if self.old is None:
            self.drop_copy()
            return self.note("ended", f"{self.found.old} is no partition of {self.name} any more; nothing to split")
        for _ in range(_ANEW):
            try:
                if self.found.state != "attached" and self.is_outgrown():
                    self._anew()
                return self._steps(deadline)
            except AlteredError:
                self._anew()
            except MillstreamError as error:
                if self.found.state != "attached" and self.is_outgrown():
                    self._anew()
                elif self.found.state == "attached" or not self.loosen():
                    raise self._explained(error) from error
        return f"{self.name} is altered again and again; the next run goes on with its split"

    def _explained(self, error: MillstreamError) -> MillstreamError:
        """Return the error, with what to do where the table has a constraint that its own rows may break."""
        loose = [one.name for one in self.plain.constraints if one.type == "c" and not one.validated]
        if not isinstance(error, DataError) or not loose:
            return error
        do = "; ".join(f"ALTER TABLE {quote_table(self.name)} VALIDATE CONSTRAINT {quote(name)}" for name in loose)
        return DataError(
            f"{error}. Partitions must fulfil what is NOT VALID on the table, too; correct the rows and {do}, or drop "
            f"it until {self.found.old} is split",
            reason=error.reason,
        )

    def _anew(self) -> None:
        self.drop_copy()
        self.look()

    def _steps(self, deadline: float) -> str:
        if self.found.state == "attached" and (refusal := self.prepare()):
            return self.note("whole", refusal)
        if self.found.state == "prepared":
            self.watch()
        while self.found.state == "copying":
            if time.monotonic() >= deadline:
                return f"{self.found.copied} rows of {self.found.old} are copied; the next run goes on"
            self.copy()
        for _ in range(_ROUNDS):
            self.look()
            self.furnish()
            if self._node is None or self._node != self.node():
                self._verify()
            with suppress(_LookAgainError):
                return self._switch()
        return f"{self.name} is altered again and again; the next run goes on with its split"

    def _verify(self) -> None:
        """Compare the copy with the old range in one snapshot, the noted changes brought in."""
        ddl, found = self.ddl, self.found
        columns = [column.name for column in self.plain.columns]
        seen: list[Any] = []

        def action() -> None:
            seen.clear()
            ddl.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            ddl.execute(f"LOCK TABLE ONLY {quote_table(found.old)} IN ACCESS SHARE MODE")  # rewritten before, or not
            self._node = self.node()
            self.renewed()
            seen.extend(self.asked(self.sql.content(name, columns)) for name in (found.old, self.sql.target))
            self.set_state("indexed", verified=seen[0][0])

        ddl.transaction(f"comparing the partitions with {found.old}", action)
        self.reread()
        if seen[0] != seen[1]:
            if self._node != found.node or not self.is_watched() or self.is_outgrown():
                raise AlteredError(
                    f"{ddl.owner}: the rows of {found.old} were changed past the trigger that follows them"
                )
            self.drop_copy()
            raise DataError(
                f"{ddl.owner}: the copy of {found.old} has {seen[1][0]} rows and hash {seen[1][1]}, the table has "
                f"{seen[0][0]} and {seen[0][1]}; the copy was thrown away, {self.name} is as it was, and the next run "
                "begins anew",
                reason="CopyMismatch",
            )
        reached("split-verified")

    def _settled(self) -> None:
        """Under the locks of the switch: raise where the table is not what was copied and compared."""
        if self.is_outgrown() or not self.is_watched():
            raise AlteredError(f"{self.ddl.owner}: {self.name} was altered while it was split")
        with bare_path(self.ddl):
            table = read_shape(self.ddl, self.name)
            copy = read_shape(self.ddl, self.sql.target)
        keys = (table.incoming, table.keys_out)
        if self.node() != self._node or lacking(table, copy) or keys != (self.plain.incoming, self.plain.keys_out):
            raise _LookAgainError

    def _switch(self) -> str:
        """Put the partitions in the old range's place; return what was done."""
        ddl, doing = self.ddl, f"putting partitions in the place of {self.found.old}"
        wait_for_older(ddl, doing)
        for _ in range(_ROUNDS):  # after the wait, which may have been long
            if self.renew() < _SHORT:
                break
        parts, found = self.parts(), self.found
        incoming, keys = self.plain.incoming, self.plain.keys_out
        names = [found.old, *(key.table for key in incoming), *(key.refers for key in keys if key.refers)]
        others = [quote_table(name) for name in names]
        known = keys_out.partitions(ddl, self.name)
        old = ddl.rows("SELECT to_regclass(%s)::text", (quote_table(found.old),))[0][0]
        keyed = [*(name for name in known if name != old), *(quote_table(part.name) for part in parts)]
        last = [statement for part in parts for statement in self.like_old(part).last]

        def action() -> None:
            ddl.at_once(conversion_sql.locks(self.name, others))
            with ddl.briefly():
                self._settled()
                if keys_out.partitions(ddl, self.name) != known:  # one was made on demand
                    raise _LookAgainError
                self.renewed()
                ddl.at_once(
                    [
                        *conversion_sql.incoming_off(incoming),
                        *keys_out.taken_off(self.name, keys),
                        *self.sql.switched(parts, self.facts.kind),
                        *last,
                        *keys_out.put_on(keyed, keys),
                        *conversion_sql.incoming_on(incoming),
                    ]
                )
                self.set_state("switched", switched_at=self.now, keys=keys_out.noted(keys))
                reached("split-switching")

        ddl.transaction(doing, action, (quote_table(self.name), *others))
        self.reread()
        reached("split-switched")
        keys_out.settle(ddl, self.name)
        finish(ddl, self.name)
        ddl.alone(f"counting {self.name} for the planner", f"ANALYZE {quote_table(self.name)}")
        reached("split-settled")
        return (
            f"{found.old} is split into {len(parts)} partitions of {self.name}; {self.found.verified} rows were "
            f"compared. The table {found.old} stays, apart, until the grace period is over"
        )

    def _end(self, grace: timedelta | None) -> str:
        keys_out.settle(self.ddl, self.name)
        finish(self.ddl, self.name)
        found = self.found
        if grace is None or found.switched_at is None or self.now < found.switched_at + grace:
            return ""
        ddl, old = self.ddl, quote_table(found.old)

        def action() -> None:
            ddl.execute(f"DROP TABLE IF EXISTS {old}")
            self.set_state("ended")
            reached("split-ending")

        ddl.transaction(f"dropping {found.old}", action, (old,))
        reached("split-ended")
        return f"{found.old}, whose rows lie in partitions of {self.name}, is dropped"


__all__ = ["advance"]
