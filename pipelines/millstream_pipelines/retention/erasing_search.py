"""Where the rows of an erasure are: attached and detached partitions, what was set aside, archives not judged yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.retention import erasing_quarantine, receipts, records
from millstream_pipelines.retention import manifest as manifests
from millstream_pipelines.retention.condition import Condition
from millstream_pipelines.retention.conversions import conversion
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.leaving import changed
from millstream_pipelines.retention.receipts import Receipt
from millstream_pipelines.retention.records import Retired
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.warehouses.names import quote_table

_FEW = 1000  # rows that may all match
_LEAVES = """
SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_partition_tree(to_regclass(%s)) t
JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.isleaf ORDER BY 1
"""


@dataclass
class Found:
    """Where rows of one erasure are. `live`, `detached`: quoted table → rows; `archives`: those not judged yet."""

    condition: Condition
    receipt: Receipt | None
    live: dict[str, int] = field(default_factory=dict)
    detached: dict[str, int] = field(default_factory=dict)
    held: int = 0
    aside: erasing_quarantine.SetAside = field(default_factory=erasing_quarantine.SetAside)
    archives: list[Retired] = field(default_factory=list)
    clean: list[Retired] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """Archives that the policy's `archive.url` does not reach any more."""

    @property
    def rows(self) -> int:
        """How many rows leave, as far as they can be counted without reading archives."""
        return sum(self.live.values()) + sum(self.detached.values()) + self.aside.rows

    @property
    def held_rows(self) -> int:
        """How many rows stay because of a hold."""
        return self.held + self.aside.held + (self.receipt.held_rows if self.receipt is not None else 0)

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do."""
        uncleared = self.receipt is not None and any(not item.removed for item in self.receipt.archives)
        return self.receipt is None or self.rows > 0 or bool(self.archives) or uncleared

    @property
    def is_left(self) -> bool:
        """Whether anything is left that the policy can reach, held or not."""
        return self.is_due or bool(self.held_rows or self.aside.staged_by or self.elsewhere)


@dataclass(frozen=True)
class Search:
    """Looks for the rows of a table's erasures; changes nothing."""

    ddl: Ddl
    policy: str
    table: str
    store: ArchiveStore | None

    def go(self, condition: Condition, column: str) -> Found:
        """Look everywhere. `column`: the one the table is cut by. ConfigurationError where every row would go."""
        self.ddl.rows("SET row_security = off")  # what a policy of rows hides would stay for ever
        found = Found(condition, receipts.receipt_of(self.ddl, self.policy, condition))
        parent = quote_table(self.table)
        found.live, found.held = self._counts([parent], condition)
        if sum(found.live.values()) > _FEW:
            others = f"FROM {parent} AS {condition.alias} WHERE ({condition.where}\n) IS NOT TRUE"
            survivor = self.ddl.rows(f"SELECT 1 {others} LIMIT 1")
            if not survivor:
                raise ConfigurationError(
                    f"{self.ddl.owner}: delete of {self.table} where '{condition.where}' matches every row of the "
                    f"table, {found.rows} of them. Nothing was deleted; `keep` or DROP TABLE takes all rows"
                )
        known = records.retired(self.ddl, self.table)
        here = [quote_table(record.partition) for record in known if record.is_here]
        turned = conversion(self.ddl, self.table)
        here += [quote_table(turned.old)] if turned is not None and turned.state == "switched" else []
        found.detached, held = self._counts([name for name in here if self._is_apart(name)], condition)
        found.held += held
        found.aside = erasing_quarantine.found(self.ddl, condition, column)
        found.elsewhere = self._elsewhere()
        for record in self._with_archives(known):
            if found.receipt is not None and found.receipt.has_judged(record.manifest or "", condition.holds):
                continue
            (found.clean if self._is_clean(record, found) else found.archives).append(record)
        return found

    def _counts(self, tables: Iterable[str], condition: Condition) -> tuple[dict[str, int], int]:
        """Return how many rows each leaf has to lose, and how many all of them have that are held."""
        found, held = {}, 0
        for table in tables:
            for leaf in [row[0] for row in self.ddl.rows(_LEAVES, (table,))] or [table]:
                rows, kept = self.ddl.rows(
                    f"SELECT count(*) FILTER (WHERE {condition.free}), count(*) FILTER (WHERE {condition.kept}) "
                    f"FROM ONLY {leaf} AS {condition.alias}"
                )[0]
                held += kept
                if rows:
                    found[leaf] = rows
        return found, held

    def _is_apart(self, table: str) -> bool:
        """Return whether a table is there and none of the attached ones, among which it would be counted twice."""
        return bool(
            self.ddl.rows(
                "SELECT 1 FROM pg_class WHERE oid = to_regclass(%s) AND oid NOT IN "
                "(SELECT relid FROM pg_partition_tree(to_regclass(%s)))",
                (table, quote_table(self.table)),
            )
        )

    def _with_archives(self, known: list[Retired]) -> list[Retired]:
        """Return the records whose archives may hold rows, those of ranges that came back among them."""
        found = [item for item in known if item.manifest is not None and item.state != "expired"]
        for item in records.standing(self.ddl, self.table):
            folder = (item.manifest or "").rpartition("/")[0]
            if self.store is not None and item.manifest in self.store.keys(folder):
                found.append(item)
        return found

    def _elsewhere(self) -> list[str]:
        """Return, for the receipt, archives at urls of before: of ranges that came back, and such as count no more.

        Of ranges that are away, who judges the archive says where it lies.
        """
        back = [(item.archive_url, item.manifest) for item in records.restored(self.ddl, self.table) if item.manifest]
        away = [(url, key) for url, key in back if self.store is None or self.store.is_elsewhere(key, url)]
        found = dict.fromkeys((url or "", key.rpartition("/")[0]) for url, key in away)
        for left in records.leftovers(self.ddl, self.table):
            if left.noted != left.folder and (self.store is None or not self.store.is_at(left.url)):
                found[left.url or "", left.folder] = None
        return [f"archive {folder} in {url}" for url, folder in found]

    def _is_clean(self, record: Retired, found: Found) -> bool:
        """Return whether the archive equals a table that is here and has none of the rows."""
        if not record.is_here or record.manifest is None or self.store is None:
            return False
        name = quote_table(record.partition)
        if not self._is_apart(name) or any(self._counts([name], found.condition)):
            return False
        try:
            return not changed(
                self.ddl, manifests.read(self.store, record.manifest, record.archive_url), record.partition
            )
        except DataError:  # who judges the archive says what is wrong with it
            return False


__all__ = ["Found", "Search"]
