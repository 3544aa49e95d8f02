"""The old range of a table that was turned is split into partitions, step by step, while it is read and written.

Each call goes on where the last one stopped or died: `_millstream.conversions` has the state, which changes in the
transaction of what it tells. attached → prepared → copying → indexed → switched → ended; `whole`: it cannot be split.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.errors import DataError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention import conversion_sql
from millstream_pipelines.retention.conversions import conversion
from millstream_pipelines.retention.convert import finish
from millstream_pipelines.retention.copying import Copying
from millstream_pipelines.retention.ddl import Ddl, alone
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.ondemand import full_name
from millstream_pipelines.retention.split_sql import Piece
from millstream_pipelines.warehouses.names import quote, quote_table

_SHORT = 1000  # noted rows that may wait for the lock
_ROUNDS = 20


def advance(
    ddl: Ddl, table: str, by: PartitionBy, budget_s: float, grace: timedelta = timedelta(days=7),
    now: datetime | None = None,
) -> str:  # fmt: skip
    """Go on with the split for about `budget_s` seconds; return what was done, an empty text for nothing.

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


class _Split(Copying):
    """The steps in their order."""

    def go(self, deadline: float, grace: timedelta) -> str:
        if self.found.state == "switched":
            return self._end(grace)
        finish(self.ddl, self.name)
        if self.old is None:
            self.drop_copy()
            return self.note("ended", f"{self.found.old} is no partition of {self.name} any more; nothing to split")
        if self.found.state != "attached" and self.is_outgrown():
            self.drop_copy()
        if self.found.state == "attached" and (refusal := self.prepare()):
            return self.note("whole", refusal)
        if self.found.state == "prepared":
            self.watch()
        while self.found.state == "copying":
            if time.monotonic() >= deadline:
                return f"{self.found.copied} rows of {self.found.old} are copied; the next run goes on"
            self.copy()
        self._verify()
        return self._switch()

    def _keys(self, parts: list[Piece]) -> None:
        """Give the partitions the table's foreign keys, so that nothing must be looked at when they are attached."""
        for part in parts:
            child = quote_table(part.name)
            has = dict(
                self.ddl.rows(
                    "SELECT conname, convalidated FROM pg_constraint WHERE conrelid = to_regclass(%s)", (child,)
                )
            )
            for key in self.plain.constraints:
                if key.type != "f" or has.get(key.name):
                    continue
                doing, name = f"adding foreign key {key.name} to {part.name}", quote(key.name)
                if key.name not in has:
                    statement = f"ALTER TABLE {child} ADD CONSTRAINT {name} {key.definition} NOT VALID"
                    self.ddl.together(doing, [statement], (child,))
                self.ddl.alone(doing, f"ALTER TABLE {child} VALIDATE CONSTRAINT {name}", (child,))

    def _verify(self) -> None:
        """Compare the copy with the old range in one snapshot, the noted changes brought in."""
        if self.found.state != "indexed":
            return
        ddl, found = self.ddl, self.found
        self._keys(self._parts())
        columns = [column.name for column in self.plain.columns]
        seen: list[Any] = []

        def action() -> None:
            seen.clear()
            ddl.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            if self.renewed() is not None:
                seen.extend(self.asked(self.sql.content(name, columns)) for name in (found.old, self.sql.target))
                self.set_state("indexed", verified=seen[0][0])

        ddl.transaction(f"comparing the partitions with {found.old}", action)
        self.reread()
        if seen and seen[0] != seen[1]:
            self.drop_copy()
            raise DataError(
                f"{ddl.owner}: the copy of {found.old} has {seen[1][0]} rows and hash {seen[1][1]}, the table has "
                f"{seen[0][0]} and {seen[0][1]}; the copy was thrown away, {self.name} is as it was, and the next run "
                "begins anew",
                reason="CopyMismatch",
            )
        reached("split-verified")

    def _switch(self) -> str:
        if self.found.state != "indexed":  # somebody truncated the table meanwhile
            return f"{self.found.old} was truncated; the next run copies it anew"
        for _ in range(_ROUNDS):
            noted = self.renew()
            if noted is None:
                return f"{self.found.old} was truncated; the next run copies it anew"
            if noted < _SHORT:
                break
        ddl, parts, found = self.ddl, self._parts(), self.found
        incoming = self.plain.incoming
        others = [quote_table(found.old), *(quote_table(key.table) for key in incoming)]

        def action() -> None:
            for statement in conversion_sql.locks(self.name, others):
                ddl.execute(statement)
            if self.renewed() is None:
                return
            for statement in (
                *conversion_sql.incoming_off(incoming),
                *self.sql.switched(parts, self.facts.kind),
                *conversion_sql.incoming_on(incoming),
            ):
                ddl.execute(statement)
            self.set_state("switched", switched_at=self.now)
            reached("split-switching")

        ddl.transaction(f"putting partitions in the place of {found.old}", action, (quote_table(self.name), *others))
        self.reread()
        reached("split-switched")
        if self.found.state != "switched":
            return f"{found.old} was truncated; the next run copies it anew"
        finish(ddl, self.name)
        ddl.alone(f"counting {self.name} for the planner", f"ANALYZE {quote_table(self.name)}")
        reached("split-settled")
        return (
            f"{found.old} is split into {len(parts)} partitions of {self.name}; {self.found.verified} rows were "
            f"compared. The table {found.old} stays, apart, until the grace period is over"
        )

    def _end(self, grace: timedelta) -> str:
        finish(self.ddl, self.name)
        found = self.found
        if found.switched_at is None or self.now < found.switched_at + grace:
            return ""
        ddl, old = self.ddl, quote_table(found.old)

        def action() -> None:
            ddl.execute(f"DROP TABLE IF EXISTS {old}")
            self.set_state("ended")
            reached("split-ending")

        ddl.transaction(f"dropping {found.old}", action, (old,))
        reached("split-ended")
        return f"{found.old}, whose rows lie in partitions of {self.name}, is dropped"

    def _parts(self) -> list[Piece]:
        with_ = table_facts(self.ddl, self.sql.target).partitions
        return [Piece(part.name, part.low, part.high) for part in with_ if part.high is not None]


__all__ = ["advance"]
