"""History of keys (scd2) as SQL: from staged changes to versions with half-open validity. Pure; any SQL engine's words.

A version begins at a change and ends at the next change of its key, at a marked delete, or where a key was found gone.
So the versions of a key are a line of moments: a change may be put anywhere on it, and only its two neighbours move.
The statements below build that line for the keys that have changes, and write what differs from the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from millstream_pipelines.batch import DELETED
from millstream_pipelines.warehouses.names import quote

CHANGES = "millstream_changes"
TIMELINE = "millstream_timeline"
AT = "_millstream_at"
_TICK = "interval '1 microsecond'"


@dataclass(frozen=True)
class History:
    """What one merge is about. `target` and `rows` are SQL: a table, and what yields the staged rows in its types."""

    target: str
    rows: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    effective_at: str | None
    valid_from: str
    valid_to: str
    newest: str
    """ORDER BY terms: of several changes of one key at one moment the first in this order stands."""
    whole: bool = False
    """The rows are all that the source has now (mode full)."""
    overriding: str = ""
    comparable: Mapping[str, str] = field(default_factory=dict)
    """Column → what to write behind it where its type has no equality, such as `::text`."""

    # -- statements, in the order they run ----------------------------------------------------------------------

    def changes(self) -> str:
        """Collect the staged changes, one per key and moment."""
        at = "now()" if self.effective_at is None else f"CAST({quote(self.effective_at)} AS timestamptz)"
        return (
            f"CREATE TEMPORARY TABLE {CHANGES} AS SELECT DISTINCT ON ({self._keys()}, {at}) {self._names()}, "
            f"{at} AS {AT}, {DELETED} FROM {self.rows} ORDER BY {self._keys()}, {at}, {self.newest}"
        )

    def settled(self) -> list[str]:
        """Take out what changes nothing, and move what must lie behind the last moment of its key."""
        if self.effective_at is not None:
            known = f"t.{self._from} = c.{AT}"
            return [*([self._returned()] if self.whole else []), self._without_repeats(known)]
        behind = (
            f"UPDATE {CHANGES} SET {AT} = l.last + {_TICK} FROM ("
            f"SELECT {self._keys('t')}, max(coalesce(t.{self._to}, t.{self._from})) AS last FROM {self.target} t "
            f"JOIN {CHANGES} c ON {self._same('t', 'c')} GROUP BY {self._keys('t')}) l "
            f"WHERE {self._same(CHANGES, 'l')} AND l.last >= {CHANGES}.{AT}"
        )
        return [self._without_repeats(f"t.{self._to} IS NULL"), behind]

    def timeline(self) -> str:
        """Lay all moments of the changed keys in a line: changes, and the begins and ends the target has."""
        old = f"FROM {self.target} t JOIN (SELECT DISTINCT {self._keys()} FROM {CHANGES}) c ON {self._same('t', 'c')}"
        return (
            f"CREATE TEMPORARY TABLE {TIMELINE} AS SELECT *, lead({AT}) OVER line AS until, "
            f"coalesce(lag(live) OVER line, false) AS was_live FROM ("
            f"SELECT {self._keys()}, {AT}, bool_or(changed) AS changed, bool_or(begins) AS begins, "
            f"bool_or(ends) AS ends, CASE WHEN bool_or(changed) THEN bool_or(lives) ELSE bool_or(begins) END AS live "
            f"FROM (SELECT {self._keys()}, {AT}, true AS changed, false AS begins, false AS ends, "
            f"NOT {DELETED} AS lives FROM {CHANGES} "
            f"UNION ALL SELECT {self._keys('t')}, t.{self._from}, false, true, false, false {old} "
            f"UNION ALL SELECT {self._keys('t')}, t.{self._to}, false, false, true, false {old} "
            f"WHERE t.{self._to} IS NOT NULL) moments GROUP BY {self._keys()}, {AT}) moments "
            f"WINDOW line AS (PARTITION BY {self._keys()} ORDER BY {AT})"
        )

    def due(self) -> str:
        """Count the changes that must have an effect, and those of them that end a version (marked deletes)."""
        ends = "changed AND NOT live AND (begins OR (was_live AND NOT ends))"
        due = f"(changed AND live) OR ({ends})"
        return f"SELECT count(*) FILTER (WHERE {due}), count(*) FILTER (WHERE {ends}) FROM {TIMELINE}"

    def overwritten(self) -> str:
        """Take out the versions that begin at the moment of a change: the change read last stands."""
        return f"DELETE FROM {self.target} t USING {CHANGES} c WHERE {self._same('t', 'c')} AND t.{self._from} = c.{AT}"

    def cut(self) -> str:
        """End versions where the next moment now lies earlier. Never later, so no two versions meet on the way."""
        return (
            f"UPDATE {self.target} AS t SET {self._to} = l.until FROM {TIMELINE} l WHERE {self._same('t', 'l')} "
            f"AND t.{self._from} = l.{AT} AND l.begins AND NOT l.changed AND t.{self._to} IS DISTINCT FROM l.until"
        )

    def inserted(self) -> str:
        """Insert the versions that begin with a change."""
        return (
            f"INSERT INTO {self.target} ({self._names()}, {self._from}, {self._to}) {self.overriding}"
            f"SELECT {self._names('c')}, c.{AT}, l.until FROM {CHANGES} c JOIN {TIMELINE} l "
            f"ON {self._same('c', 'l')} AND l.{AT} = c.{AT} WHERE NOT c.{DELETED}"
        )

    def clearing(self) -> list[str]:
        """Drop what the merge made."""
        return [f"DROP TABLE {CHANGES}", f"DROP TABLE {TIMELINE}"]

    def statements(self) -> list[str]:
        """Return all of it, for people."""
        moved = [self.overwritten(), self.cut(), self.inserted()]
        return [self.changes(), *self.settled(), self.timeline(), *moved]

    # -- parts --------------------------------------------------------------------------------------------------

    def _without_repeats(self, known: str) -> str:
        equal = self._equal("t", "c")
        return (
            f"DELETE FROM {CHANGES} c USING {self.target} t WHERE {self._same('t', 'c')} AND {known} "
            f"AND NOT c.{DELETED}{f' AND {equal}' if equal else ''}"
        )

    def _returned(self) -> str:
        """A key whose validity had ended, and which the source has again: it holds from now, whatever its time says."""
        return (
            f"UPDATE {CHANGES} SET {AT} = greatest(now(), e.last) FROM ("
            f"SELECT {self._keys('c')}, max(c.{AT}) AS newest, max(t.{self._to}) AS last FROM {self.target} t "
            f"JOIN {CHANGES} c ON {self._same('t', 'c')} GROUP BY {self._keys('c')} "
            f"HAVING bool_and(t.{self._to} IS NOT NULL)) e "
            f"WHERE {self._same(CHANGES, 'e')} AND {CHANGES}.{AT} = e.newest AND e.last > {CHANGES}.{AT} "
            f"AND NOT {CHANGES}.{DELETED}"
        )

    @property
    def _from(self) -> str:
        return quote(self.valid_from)

    @property
    def _to(self) -> str:
        return quote(self.valid_to)

    def _names(self, of: str = "") -> str:
        return ", ".join(_of(of, name) for name in self.columns)

    def _keys(self, of: str = "") -> str:
        return ", ".join(_of(of, name) for name in self.key)

    def _same(self, one: str, other: str) -> str:
        return " AND ".join(f"{_of(one, name)} = {_of(other, name)}" for name in self.key)

    def _equal(self, one: str, other: str) -> str:
        return " AND ".join(
            f"{_of(one, name)}{self.comparable.get(name, '')} IS NOT DISTINCT FROM "
            f"{_of(other, name)}{self.comparable.get(name, '')}"
            for name in self.columns
            if name not in self.key
        )


def _of(table: str, name: str) -> str:
    return f"{table}.{quote(name)}" if table else quote(name)
