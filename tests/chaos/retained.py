"""A table under a policy, with writers and readers: time moves on, runs are killed, and where every row is, is asked.

The server's clock is moved by a `now()` of the database's own, found before PostgreSQL's; a pod sees nothing else.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg2

from chaos.attempts import PATIENCE_S, Attempt, Warm
from millstream_api import Endpoint, RetentionOptions, RunPlan
from millstream_api.retentionpolicy import Archive, RetentionPolicySpec
from millstream_pipelines.retention import manifest as manifests
from millstream_pipelines.retention.archive import verify
from millstream_pipelines.retention.sessions import Sessions
from millstream_pipelines.retention.store import ArchiveStore
from retention.archives import config_of
from servers.postgres import Postgres

TABLE = "raw.events"
_SETUP = """
CREATE SCHEMA moved;
CREATE TABLE moved.shift AS SELECT interval '0' AS shift;
CREATE FUNCTION moved.now() RETURNS timestamptz LANGUAGE sql STABLE AS
  'SELECT pg_catalog.now() + shift FROM moved.shift';
CREATE SCHEMA raw;
CREATE TABLE raw.events (at timestamptz NOT NULL, id bigint NOT NULL, price numeric(12,2), doc jsonb,
  PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE public.written (LIKE raw.events);
CREATE SEQUENCE public.ids
"""
_WRITE = """
WITH new AS (SELECT moved.now() + random() * %(reach)s::interval AS at, nextval('public.ids') AS id,
  round((random() * 1000)::numeric, 2) AS price, jsonb_build_object('n', random()) AS doc FROM generate_series(1, 3)),
kept AS (INSERT INTO public.written SELECT * FROM new RETURNING *)
INSERT INTO raw.events SELECT * FROM kept
"""
_REACHES = ("1 day", "-6 days")  # ahead, and into partitions that may be leaving at that moment
_ROWS = "SELECT id, (extract(epoch FROM at) * 1000000)::bigint, price, doc::text FROM {}"
KEEP_DAYS, EXPIRE_DAYS, GRACE_DAYS = 4, 9, 2
Row = tuple[Any, ...]


class Traffic(threading.Thread):
    """One session that writes or reads all the time. `failure`: the first statement that should not have failed."""

    def __init__(self, database: Postgres, number: int) -> None:
        super().__init__(name=f"traffic-{number}")
        self._database, self._number = database, number
        self._chance = random.Random(number)
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self.done = self.late = 0

    def run(self) -> None:
        try:
            with closing(psycopg2.connect(self._database.dsn)) as connection, connection.cursor() as cursor:
                while not self.stopping.is_set():
                    self._once(connection, cursor)
                    self.done += 1
                    self.stopping.wait(self._chance.uniform(0.03, 0.15))
        except BaseException as error:
            self.failure = error

    def _once(self, connection: Any, cursor: Any) -> None:
        if self._number % 3 == 2:
            cursor.execute("SELECT count(*), max(at) FROM raw.events")
            self.stopping.wait(self._chance.choice((0, 0, 0.03)))  # its lock stays until the transaction's end
            connection.rollback()
            return
        is_late = self._number % 3 == 1
        try:
            cursor.execute(_WRITE, {"reach": _REACHES[is_late]})
        except psycopg2.errors.CheckViolation:
            if not is_late:
                raise
            self.late += 1
            connection.rollback()
        else:
            connection.commit()


class Retained:
    """The table, its policy, its attempts, and what must be true of all of them."""

    def __init__(self, database: Postgres, warm: Warm, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.database, self._warm, self._folder = database, warm, folder
        self._number = 0
        self.run = "run-1"
        self._verified: set[str] = set()
        self.states: Counter[str] = Counter()
        archive = {"url": f"file://{folder}/archive", "keep": {"age": f"{EXPIRE_DAYS} days"}}
        self.store = ArchiveStore(Archive.model_validate(archive), {}, "the test")
        by = {"column": "at", "interval": "1 day", "premake": 3}
        spec = {
            "warehouseRef": {"name": "w"}, "tables": [{"name": TABLE, "partitionBy": by}],
            "keep": {"age": f"{KEEP_DAYS} days"}, "archive": archive, "grace": f"{GRACE_DAYS} days",
            "lockTimeout": "100ms",
        }  # fmt: skip
        plan = RunPlan(
            action="retain", namespace="n", name="p", policy=RetentionPolicySpec.model_validate(spec),
            warehouse=Endpoint(name="w", type="postgres", config=dict(database.config)),
        )  # fmt: skip
        self._plan = folder / "plan.json"
        self._plan.write_text(plan.document())
        database.execute(_SETUP)
        database.execute(f'ALTER DATABASE "{database.database}" SET search_path = moved, pg_catalog, public')

    def later(self, hours: int) -> None:
        """Move the server's clock."""
        self.database.execute(f"UPDATE moved.shift SET shift = shift + interval '{hours} hours'")

    def start(self, failpoint: str = "", options: dict[str, Any] | None = None) -> Attempt:
        """Start an attempt; `run` says of which run."""
        self._number += 1
        return Attempt(
            self._warm, self._folder, self._plan, self.run, self._number, failpoint,
            options=RetentionOptions.model_validate(options or {}),
        )  # fmt: skip

    def finish(self, options: dict[str, Any] | None = None) -> None:
        """Run to the end; what a killed one still holds on the server is waited for."""
        deadline = time.monotonic() + PATIENCE_S
        while (attempt := self.start(options=options)).end() == 75 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert attempt.status == 0, attempt.log()

    def away(self) -> list[Row]:
        """Return state, partition, bounds and manifest of every range that is not in the table."""
        return self.database.execute(
            "SELECT state, partition, low, high, manifest FROM _millstream.retired "
            "WHERE state <> 'restored' ORDER BY id"
        )

    def check(self) -> None:
        """Every row that was committed is in one place, once; nothing is left of what was killed."""
        away = self.away()
        self.database.execute(
            "DELETE FROM public.written w USING _millstream.retired r "
            "WHERE r.state = 'expired' AND w.at >= r.low::timestamptz AND w.at < r.high::timestamptz"
        )
        self.states.update(state for state, *_ in away)
        with closing(psycopg2.connect(self.database.dsn)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)  # they go on writing

            def rows(table: str) -> Counter[Row]:
                with connection.cursor() as cursor:
                    cursor.execute(_ROWS.format(table))
                    return Counter(cursor.fetchall())

            wanted, found = rows("public.written"), rows(TABLE)
            for state, partition, _, _, manifest in away:
                if state in ("detached", "archived"):
                    found += rows(partition)
                if state == "archived":
                    assert self._archived(manifest) == rows(partition), partition
                if state == "dropped":
                    found += self._archived(manifest)
        assert found == wanted, f"lost {wanted - found}, too much {found - wanted}; {away}"
        self._nothing_left(away)

    def compare_and_drop(self, schema: str, partition: str) -> None:
        """Compare a range that came back beside the table with its archive, and drop it."""
        name = f"{schema}.{partition.partition('.')[2]}"
        (manifest,) = (item[4] for item in self.away() if item[1] == partition)
        assert Counter(self.database.execute(_ROWS.format(name))) == self._archived(manifest)
        self.database.execute(f"DROP SCHEMA {schema} CASCADE")

    def _nothing_left(self, away: list[Row]) -> None:
        tables = {row[0] for row in self.database.execute(
            "SELECT c.oid::regclass::text FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'raw'::regnamespace "
            "AND NOT relispartition")}  # fmt: skip
        assert tables == {partition for state, partition, *_ in away if state in ("detached", "archived")}
        assert {state for state, *_ in away} <= {"detached", "archived", "dropped", "expired"}
        leftovers = (
            "SELECT 'check', conrelid::regclass::text FROM pg_constraint WHERE conname = 'millstream_range' UNION ALL "
            "SELECT 'comment', objoid::regclass::text FROM pg_description WHERE description LIKE '%millstream%' "
            "AND classoid = 'pg_class'::regclass UNION ALL "
            "SELECT 'lock', locktype FROM pg_locks WHERE locktype = 'advisory' AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database()) UNION ALL "
            "SELECT 'session', query FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name LIKE 'millstream%' UNION ALL "
            "SELECT 'table', relname FROM pg_class WHERE relname LIKE '%millstream_restored%' UNION ALL "
            "SELECT 'detaching', inhrelid::regclass::text FROM pg_inherits WHERE inhdetachpending"
        )
        deadline = time.monotonic() + PATIENCE_S
        while found := self.database.execute(leftovers):
            assert {kind for kind, _ in found} <= {"lock", "session"}, found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)  # the server has not seen its client go
        keys = self.store.keys("")
        folders = {key.rpartition("/")[0] for key in keys}
        known = {item[0] for item in self.database.execute(
            "SELECT unnest(attempts) FROM _millstream.retired WHERE state <> 'expired'")}  # fmt: skip
        assert folders == known, f"unknown {folders - known}, missing {known - folders}"
        trusted = {manifest.rpartition("/")[0] for state, *_, manifest in away if state in ("archived", "dropped")}
        assert trusted <= folders
        with Sessions(config_of(self.database), "the test") as sessions:
            for key in sorted({f"{folder}/{manifests.NAME}" for folder in folders} - self._verified):
                made = manifests.read(self.store, key)
                verify(self.store, made.objects, made.columns, made.content, key, sessions.engine())
                self._verified.add(key)

    def _archived(self, key: str) -> Counter[Row]:
        files = [self.store._store.address(item.key) for item in manifests.read(self.store, key).objects]
        if not files:
            return Counter()
        with closing(duckdb.connect()) as engine:
            engine.execute("SET TimeZone = 'UTC'")
            return Counter(
                engine.execute(f'SELECT id, epoch_us("at"), price, doc FROM read_parquet({files})').fetchall()
            )
