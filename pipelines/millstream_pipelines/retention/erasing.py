"""Erasure of rows of one table, everywhere: attached and detached partitions, what was set aside, archives.

An erasure stands as long as the policy names it: rows that come back (from a restored backup, a replay, a source that
still has them) leave with the next run. An archive is judged once, since it never changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from millstream_api.retentionpolicy import Erasure, RetentionPolicySpec
from millstream_pipelines.errors import ConfigurationError, DataError, MillstreamError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.retention import erasing_quarantine, receipts, records
from millstream_pipelines.retention.condition import Condition, checked
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.dependence import referring
from millstream_pipelines.retention.erasing_archives import Rewriting, Wanted
from millstream_pipelines.retention.erasing_search import Found, Search
from millstream_pipelines.retention.facts import TableFacts
from millstream_pipelines.retention.manifest import NAME
from millstream_pipelines.retention.planning import Planned
from millstream_pipelines.retention.receipts import Receipt
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig

_PAGES = 4096  # of a partition in one transaction
_PASSES = 3  # over a partition that others change meanwhile
_LEFT_OVER = """
SELECT c.oid::regclass::text FROM _millstream.retired r JOIN pg_class c ON c.relname = 'erasing_' || r.id
WHERE r.table_name = %s AND c.relnamespace = '_millstream'::regnamespace
"""


@dataclass
class Erasing:
    """The erasures of one table in one run. `policy` is `namespace/name`."""

    ddl: Ddl
    config: PostgresConfig
    policy: str
    spec: RetentionPolicySpec
    table: str
    store: ArchiveStore | None
    now: datetime
    _found: list[Found] | None = None
    _stood: object = None
    """The partitions and records that were there when it looked."""

    @property
    def wanted(self) -> list[Erasure]:
        """What the policy says of this table."""
        return [item for item in self.spec.delete if _full(item.table) == self.table]

    def planned(self, facts: TableFacts, zone: ZoneInfo) -> list[Planned]:
        """Return the steps: one per erasure that is due, one for what something keeps, by name."""
        steps = []
        for item in self.look(facts, zone):
            condition = item.condition
            if item.is_due:
                steps.append(self._step(item))
            blocked = [f"hold '{hold.partition(' ')[0]}'" for hold in condition.holds] if item.held_rows else []
            blocked += item.aside.staged_by
            if blocked:
                steps.append(replace(self._step(item), rows=item.held_rows, blocked_by="; ".join(blocked)))
        return steps

    def _step(self, item: Found) -> Planned:
        why = f"{item.condition.reason} (condition {item.condition.mark[:12]})"
        times = item.receipt.times if item.receipt is not None else 0
        return Planned("erase", self.table, "", None, None, why, 0, item.rows, "", item.condition, str(times or ""))

    def look(self, facts: TableFacts, zone: ZoneInfo) -> list[Found]:
        """Look once, and remember. ConfigurationError for a condition that PostgreSQL refuses."""
        if self._found is None:
            cut = (facts.column, facts.kind, zone)
            conditions = [checked(self.ddl, self.table, item, self.spec.holds, cut) for item in self.wanted]
            search = Search(self.ddl, self.policy, self.table, self.store)
            self._stood = self._standing(facts)
            self._found = [search.go(condition, facts.column) for condition in conditions]
        return self._found

    def look_again_if_changed(self, facts: TableFacts) -> None:
        """Forget what was found, where another run has changed the table since."""
        if self._found is not None and self._stood != self._standing(facts):
            self._found = None

    def _standing(self, facts: TableFacts) -> object:
        known = [*records.retired(self.ddl, self.table), *records.restored(self.ddl, self.table)]
        away = frozenset((record.id, record.state, record.manifest) for record in known)
        return frozenset(part.name for part in facts.partitions), away

    def go(self, facts: TableFacts, zone: ZoneInfo, may: Callable[[Planned], bool]) -> int:
        """Erase all that is due and may be; return how many erasures were.

        DataError where something could not be judged.
        """
        due = [item for item in self.look(facts, zone) if item.is_due and may(self._step(item))]
        for item in due:
            receipts.begin(self.ddl, self.policy, item.condition)
            item.receipt = receipts.receipt_of(self.ddl, self.policy, item.condition)
            assert item.receipt is not None  # noqa: S101 - it has just begun
            for tables, place in ((item.live, "live_rows"), (item.detached, "detached_rows")):
                for table in tables:
                    self._delete(table, item.condition, item.receipt, place)
            if item.aside.rows:
                erasing_quarantine.erase(self.ddl, item.condition, facts.column, item.receipt)
            reached("erased")
        if due:
            self._tidied()
            self._archives(due)
            for item in due:
                if item.receipt is not None:
                    receipts.counted(self.ddl, item.receipt)
            self._found = None
        return len(due)

    def settle(self, facts: TableFacts, zone: ZoneInfo) -> None:
        """Note which archives hold none of the rows, while their tables are still here, and which erasures are done."""
        if facts.shape != "ranges":
            return
        self._tidied()
        sought = self.look(facts, zone)
        strangers = self._strangers() if sought else []
        for item in sought:
            if item.receipt is None:
                continue
            for record in item.clean:
                self._rewriting().note(record, [(item.condition, item.receipt)])
            if not item.is_due:  # whoever carried it out may have been killed
                receipts.counted(self.ddl, item.receipt)
            at = None if item.is_left else item.receipt.done_at or self.now
            unjudged = (*item.aside.unknown, *item.elsewhere, *strangers)
            receipts.finish(self.ddl, item.receipt, at, unjudged)

    def _delete(self, table: str, condition: Condition, receipt: Receipt, place: str) -> None:
        """Delete in stretches of a table's pages, each its own transaction, counted in it."""
        for _ in range(_PASSES):
            deleted, size = 0, self.ddl.rows(
                "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int", (table,)
            )[0][0]  # fmt: skip
            for page in range(0, size, _PAGES):
                deleted += self._stretch(table, page, condition, receipt, place)
            if not deleted:
                return

    def _stretch(self, table: str, page: int, condition: Condition, receipt: Receipt, place: str) -> int:
        try:
            return int(
                self.ddl.rows(
                    f"WITH gone AS (DELETE FROM ONLY {table} AS {condition.alias} WHERE "
                    f"{condition.alias}.ctid >= '({page},0)'::tid AND {condition.alias}.ctid < "
                    f"'({page + _PAGES},0)'::tid AND {condition.free} RETURNING 1) "
                    f"UPDATE _millstream.erasures SET {place} = {place} + (SELECT count(*) FROM gone) "
                    f"WHERE id = {receipt.id} RETURNING (SELECT count(*) FROM gone)"
                )[0][0]
            )
        except MillstreamError as error:
            if by := referring(self.ddl, error):
                raise DataError(
                    f"{self.ddl.owner}: rows of {self.table} that are to be erased are referred to by {by}: erase "
                    "those rows first, by an entry of their own in `delete`",
                    reason="ErasureIncomplete",
                ) from None  # the server's words hold the key
            raise

    def _tidied(self) -> None:
        """Remove what a killed run left of an archive: its rows in a table, or what it had replaced in the store."""
        for (name,) in self.ddl.rows(_LEFT_OVER, (self.table,)):
            self.ddl.rows(f"DROP TABLE IF EXISTS {name}")
        in_force = {record.manifest for record in records.retired(self.ddl, self.table)}
        for receipt in receipts.receipts(self.ddl, self.policy):
            for judged in receipt.archives:
                if receipt.table == self.table and not judged.removed:
                    self._rewriting().clear(receipt, judged, judged.key in in_force)

    def _archives(self, due: list[Found]) -> None:
        """Judge each archive once for all erasures that have not seen it; go on behind one that cannot be judged."""
        failures: list[str] = []
        by_id = {record.id: record for item in due for record in item.archives}
        for record in by_id.values():
            wanted: Wanted = [
                (item.condition, item.receipt)
                for item in due
                if item.receipt is not None and any(record.id == other.id for other in item.archives)
            ]
            try:
                self._rewriting().judge(record, wanted)
            except DataError as error:
                failures.append(str(error))
        self._sweep()
        if failures:
            raise DataError("; ".join(failures), reason="ErasureIncomplete")

    def _rewriting(self) -> Rewriting:
        if self.store is None:
            raise ConfigurationError(
                f"{self.ddl.owner}: table {self.table} has archives, and the policy names none any more: rows "
                "cannot be erased there. Name the archive again"
            )
        return Rewriting(self.ddl, self.config, self.store, self.now)

    def _attempts(self) -> dict[str, list[str]]:
        """Return folder → keys of what lies in the store for this table and no record names."""
        if self.store is None:
            return {}
        all_records = [*records.retired(self.ddl, self.table), *records.restored(self.ddl, self.table)]
        known = {item.manifest.rpartition("/")[0] for item in all_records if item.manifest is not None}
        found: dict[str, list[str]] = {}
        for key in self.store.keys(self.table):
            if key.rpartition("/")[0] not in known:
                found.setdefault(key.rpartition("/")[0], []).append(key)
        return found

    def _sweep(self) -> None:
        """Delete what killed attempts of this warehouse have left: objects without a manifest."""
        for folder, keys in self._attempts().items():
            if self.store is not None and self.store.is_ours(folder) and f"{folder}/{NAME}" not in keys:
                self.store.delete(keys)

    def _strangers(self) -> list[str]:
        """Return, for the receipt, what lies there for a table of this name and no record names: mostly another's."""
        return [f"archive {folder}" for folder in self._attempts()]


def _full(table: str) -> str:
    return table if "." in table else f"public.{table}"


__all__ = ["Erasing"]
