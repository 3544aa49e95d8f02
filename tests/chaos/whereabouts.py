"""Where every row is: in the table, in a detached one, in an archive that counts, or set aside; once."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from chaos.attempts import PATIENCE_S
from chaos.retained import TABLE, Retained, Row
from millstream_pipelines.retention import manifest as manifests
from millstream_pipelines.retention.manifest import Manifest
from millstream_pipelines.retention.readback import ReadBack
from millstream_pipelines.retention.sessions import Sessions
from retention.archives import config_of

_ROWS = "SELECT id, (extract(epoch FROM at) * 1000000)::bigint, price, doc::text FROM {}"
_ASIDE = "SELECT (row->>'id')::bigint FROM _millstream.quarantine WHERE target = 'raw.events' AND row ? 'id'"
_EXPIRED = (
    "DELETE FROM public.{0} w USING _millstream.retired r WHERE r.state = 'expired' AND w.at < r.high::timestamptz "
    "AND (r.low IS NULL OR w.at >= r.low::timestamptz)"
)
_LEFTOVERS = """
SELECT 'check', conrelid::regclass::text FROM pg_constraint WHERE conname LIKE 'millstream%' UNION ALL
SELECT 'comment', objoid::regclass::text FROM pg_description WHERE description LIKE '%millstream%'
  AND classoid = 'pg_class'::regclass UNION ALL
SELECT 'lock', locktype FROM pg_locks WHERE locktype = 'advisory' AND database =
  (SELECT oid FROM pg_database WHERE datname = current_database()) UNION ALL
SELECT 'session', query FROM pg_stat_activity WHERE datname = current_database()
  AND application_name LIKE 'millstream%' UNION ALL
SELECT 'table', relname FROM pg_class WHERE relname LIKE '%millstream_restored%' UNION ALL
SELECT 'table', relname FROM pg_class WHERE relnamespace = '_millstream'::regnamespace
  AND (relname LIKE 'split%' OR relname LIKE 'erasing%') UNION ALL
SELECT 'function', proname FROM pg_proc WHERE proname LIKE 'split_note%' UNION ALL
SELECT 'trigger', tgname FROM pg_trigger WHERE tgname LIKE 'millstream%' UNION ALL
SELECT 'detaching', inhrelid::regclass::text FROM pg_inherits WHERE inhdetachpending
"""
_APART = """
SELECT c.oid::regclass::text FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'raw'::regnamespace
AND NOT relispartition AND oid <> 'raw.events'::regclass
"""
_KNOWN = """
SELECT unnest(attempts || regexp_replace(manifest, '/[^/]*$', '')) FROM _millstream.retired r WHERE state <> 'expired'
AND NOT (state = 'restored' AND EXISTS (SELECT FROM _millstream.retired n WHERE n.id > r.id
  AND n.low IS NOT DISTINCT FROM r.low AND n.high IS NOT DISTINCT FROM r.high AND n.manifest IS NOT NULL))
"""
_RECORDS = "SELECT id, state, low, attempts, manifest FROM _millstream.retired ORDER BY low, id"


class Whereabouts:
    """What must be true of a table under a policy. `states`: in which states ranges were seen."""

    def __init__(self, place: Retained) -> None:
        self._place, self._ask = place, place.database.execute
        self._sessions = Sessions(config_of(place.database), "the test")
        self._verified: set[str] = set()
        self.states: Counter[str] = Counter()

    def close(self) -> None:
        """Close what was opened to look."""
        self._sessions.close()

    def check(self) -> None:
        """Every row that was committed is in one place, once; nothing is left of what was killed."""
        away = self._place.away()
        for table in ("written", "source"):
            self._ask(_EXPIRED.format(table))
        self.states.update(state for state, *_ in away)
        matches = self.erased
        wanted = " UNION ALL ".join(
            f"{_ROWS.format(f'public.{table}')} WHERE NOT ({matches}) AND id <> ALL (%s)"
            for table in ("written", "source")
        )
        with closing(psycopg2.connect(self._place.database.dsn)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)  # they go on writing

            def rows(query: str, *given: Any) -> Counter[Row]:
                with connection.cursor() as cursor:
                    cursor.execute(query, given)
                    return Counter(cursor.fetchall())

            aside = Counter(number for (number,) in rows(_ASIDE).elements())
            assert set(aside.values()) <= {1}, aside
            committed, found = rows(wanted, list(aside), list(aside)), rows(_ROWS.format(TABLE))
            for state, partition, _, _, manifest in away:
                if state in ("detached", "archived"):
                    found += rows(_ROWS.format(partition))
                if state == "archived":
                    assert self._archived(manifest) == rows(_ROWS.format(partition)), partition
                if state == "dropped":
                    found += self._archived(manifest)
        assert found == committed, f"lost {committed - found}, too much {found - committed}; {away}"
        self._nothing_left(away)

    @property
    def erased(self) -> str:
        """Which rows must be nowhere, as SQL."""
        return " OR ".join(f"({where})" for where in self._place.erasures) or "false"

    def trusted(self) -> None:
        """Whatever lies in the store as an archive is whole, and so is whatever counts as one. At any moment."""
        for made in self.manifests():
            for item in made.objects:
                assert Path(self._path(item.key)).stat().st_size == item.size, f"{item.key} of {made.key}"
        if self._ask("SELECT to_regclass('_millstream.retired')")[0][0] is None:
            return
        for state, partition, _, _, manifest in self._place.away():
            assert state not in ("archived", "dropped") or manifests.read(self._place.store, manifest), partition

    def manifests(self) -> list[Manifest]:
        """Return all that the store has."""
        store = self._place.store
        return [manifests.read(store, key) for key in store.keys("") if key.endswith(f"/{manifests.NAME}")]

    def matching(self, where: str) -> tuple[int, int, int, int]:
        """Return how many rows match: in the table, detached, set aside, in archives."""
        tables = [part for state, part, *_ in self._place.away() if state in ("detached", "archived")]

        def count(table: str) -> int:
            return int(self._ask(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])

        aside = count(f"({_ASIDE} AND row->>'id' IS NOT NULL) AS q (id)")
        paths = [self._path(item.key) for made in self.manifests() for item in made.objects]
        query = f"SELECT count(*) FROM read_parquet({paths}) WHERE {where}"
        archived = self._sessions.engine().execute(query).fetchone()[0] if paths else 0
        return count(TABLE), sum(map(count, tables)), aside, archived

    def compare_and_drop(self, schema: str, partition: str) -> None:
        """Compare a range that came back beside the table with its archive, and drop it."""
        name = f"{schema}.{partition.partition('.')[2]}"
        (manifest,) = (item[4] for item in self._place.away() if item[1] == partition)
        assert Counter(self._ask(_ROWS.format(name))) == self._archived(manifest)
        self._ask(f"DROP SCHEMA {schema} CASCADE")

    def _nothing_left(self, away: list[Row]) -> None:
        tables = {row[0] for row in self._ask(_APART)}
        before = {row[0] for row in self._ask("SELECT old_name FROM _millstream.conversions WHERE state = 'switched'")}
        assert tables == before | {partition for state, partition, *_ in away if state in ("detached", "archived")}
        assert {state for state, *_ in away} <= {"detached", "archived", "dropped", "expired"}
        deadline = time.monotonic() + PATIENCE_S
        while found := self._ask(_LEFTOVERS):
            assert {kind for kind, _ in found} <= {"lock", "session"}, found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)  # the server has not seen its client go
        store = self._place.store
        folders = {key.rpartition("/")[0] for key in store.keys("")}
        known = {item[0] for item in self._ask(_KNOWN)} - {None}
        assert folders == known, f"unknown {folders - known}, missing {known - folders}; {self._ask(_RECORDS)}"
        counted = {manifest.rpartition("/")[0] for state, *_, manifest in away if state in ("archived", "dropped")}
        assert counted <= folders
        for made in self.manifests():
            if made.key not in self._verified:
                reading = ReadBack(store, made.columns, made.key, self._sessions.engine)
                for item in made.objects:
                    reading.add(item)
                reading.compare(made.content)
                reading.close()
                self._verified.add(made.key)

    def _path(self, key: str) -> str:
        return self._place.store._store.address(key)

    def _archived(self, key: str) -> Counter[Row]:
        files = [self._path(item.key) for item in manifests.read(self._place.store, key).objects]
        if not files:
            return Counter()
        query = f'SELECT id, epoch_us("at"), price, doc FROM read_parquet({files})'
        return Counter(self._sessions.engine().execute(query).fetchall())


__all__ = ["Whereabouts"]
