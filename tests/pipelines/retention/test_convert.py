"""A plain table becomes a partitioned one: everything that hung on it still does, and nobody noticed."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from millstream_pipelines.errors import MillstreamError, RetriableError
from millstream_pipelines.retention.convert import convert, plan
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import table_facts
from retained import BY, NOW, furnished, migrated, patient
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

TABLE = "public.events"
LOOKS: dict[str, str] = {
    "columns": "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, "
    "attstattarget, pg_get_serial_sequence('events', attname), col_description(attrelid, attnum), attacl::text "
    "FROM pg_attribute WHERE attrelid = 'events'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    "constraints": "SELECT conname, pg_get_constraintdef(oid), convalidated, obj_description(oid) FROM pg_constraint "
    "WHERE conrelid = 'events'::regclass ORDER BY 1",
    "indexes": "SELECT relname, replace(pg_get_indexdef(oid), ' ONLY ', ' '), obj_description(oid) FROM pg_class "
    "WHERE oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'events'::regclass AND indisvalid) ORDER BY 1",
    "grants": "SELECT grantee, privilege_type, is_grantable FROM information_schema.table_privileges "
    "WHERE table_name IN ('events', 'big') ORDER BY table_name, 1, 2",
    "triggers": "SELECT tgname, pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE tgrelid = 'events'::regclass "
    "AND NOT tgisinternal ORDER BY 1",
    "policies": "SELECT policyname, permissive, roles, cmd, qual, with_check FROM pg_policies "
    "WHERE tablename = 'events' ORDER BY 1",
    "table": "SELECT relrowsecurity, relforcerowsecurity, relreplident, relowner::regrole::text, obj_description(oid) "
    "FROM pg_class WHERE oid = 'events'::regclass",
    "keys to it": "SELECT conname, conrelid::regclass::text, pg_get_constraintdef(oid), convalidated, "
    "obj_description(oid) FROM pg_constraint WHERE confrelid = 'events'::regclass AND conparentid = 0 ORDER BY 1",
    "views": "SELECT pg_get_viewdef('big'), pg_get_viewdef('bigger'), "
    "(SELECT reloptions FROM pg_class WHERE oid = 'big'::regclass)",
    "statistics": "SELECT stxkeys::text, stxkind FROM pg_statistic_ext WHERE stxrelid = 'events'::regclass",
    "rows": "SELECT * FROM events ORDER BY id",
    "seen": "SELECT count(*), sum(amount) FROM bigger",
}


def look(database: Postgres) -> dict[str, list[tuple[Any, ...]]]:
    return {what: database.execute(sql) for what, sql in LOOKS.items()}


def test_everything_is_carried_over(any_postgres_database: Postgres) -> None:
    with furnished(any_postgres_database), patient(any_postgres_database) as ddl:
        before = look(any_postgres_database)
        facts = table_facts(ddl, TABLE)
        assert facts.shape == "plain"
        assert plan(ddl, facts, BY, NOW) == []
        message = convert(ddl, facts, BY, NOW)
        assert "public.events_before" in message
        assert "disk" in message
        after = look(any_postgres_database)
        for what, seen in before.items():
            assert after[what] == seen, what
        made = table_facts(ddl, TABLE)
        assert (made.shape, made.column, made.has_default) == ("ranges", "at", False)
        assert next((part.name, part.low) for part in made.partitions) == ("public.events_before", None)
        assert [part.name for part in made.partitions][1:] == ["public.events_p20270201", "public.events_p20270301"]

        # It lives on: the identity goes on, keys, triggers, views and policies hold.
        any_postgres_database.execute(
            "INSERT INTO events (at, amount) VALUES ('2026-11-23 10:00', 3000), ('2027-02-03', 1)"
        )
        new = any_postgres_database.execute(
            "SELECT id, tableoid::regclass::text, number, double FROM events WHERE id > 2000"
        )
        assert [tuple(map(str, row)) for row in sorted(new)] == [
            ("2001", "events_before", "2001", "6000.00"), ("2002", "events_p20270201", "2002", "2.00"),
        ]  # fmt: skip
        assert any_postgres_database.execute("SELECT count(*), count(DISTINCT id) FROM audit") == [(2, 2)]
        assert any_postgres_database.execute("SELECT max(amount)::int FROM bigger") == [(3000,)]
        assert any_postgres_database.execute("SELECT * FROM _millstream.partitioned")[0][:6] == (
            "public.events", "at", "timestamptz", "1 month", "Etc/UTC", 2,
        )  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "interval"), [
    ("timestamptz", "now() - n * interval '1 hour'", "1 week"),
    ("timestamp", "now()::timestamp - n * interval '1 hour'", "1 month"),
    ("date", "now()::date - n", "1 quarter"),
    ("smallint", "n", "500"),
    ("int", "n", "1000"),
    ("bigint", "n * 1000000000000", "5000000000000"),
])  # fmt: skip
def test_no_row_is_looked_at_under_the_lock(
    kind: str, value: str, interval: str, any_postgres_database: Postgres
) -> None:
    any_postgres_database.execute(f"CREATE TABLE t AS SELECT ({value})::{kind} AS at FROM generate_series(0, 999) n")
    by = BY.model_copy(update={"interval": interval})
    with patient(any_postgres_database) as ddl:
        ddl.rows("SET client_min_messages = debug1")
        convert(ddl, table_facts(ddl, "t"), by)
        told = "".join(ddl.connection.notices)
        assert 'partition constraint for table "t_before" is implied by existing constraints' in told
        assert 'verifying table "t_before"' not in told.rpartition("ATTACH")[2]
    assert any_postgres_database.execute("SELECT count(*) FROM t") == [(1000,)]


def test_who_does_not_let_go_is_named_and_nothing_has_changed(any_postgres_database: Postgres) -> None:
    any_postgres_database.execute("CREATE TABLE events AS SELECT now() AS at")
    shape = "SELECT relkind::text, relchecks FROM pg_class WHERE relname = 'events'"
    holder = psycopg2.connect(any_postgres_database.dsn)
    try:
        with Ddl(migrated(any_postgres_database), "test", 0.3, patience_s=0.5) as ddl:
            facts = table_facts(ddl, TABLE)
            with holder.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM events")  # and stays in its transaction
            with pytest.raises(RetriableError, match=r"held by pid .* SELECT count"):
                convert(ddl, facts, BY)
            holder.rollback()
            assert any_postgres_database.execute(shape) == [("r", 0)]
            convert(ddl, facts, BY)
    finally:
        holder.close()
    assert any_postgres_database.execute(shape) == [("p", 0)]


def test_a_prepared_transaction_is_named(any_postgres_database: Postgres) -> None:
    """It has no session, and stays until somebody ends it by its name."""
    database = any_postgres_database
    database.execute("CREATE TABLE events (id int, at timestamptz NOT NULL, PRIMARY KEY (id, at))")
    name = f"left-{database.database}"
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO events VALUES (1, '2026-11-01')")
        cursor.execute(f"PREPARE TRANSACTION '{name}'")
    try:
        with (
            Ddl(migrated(database), "test", 0.2, patience_s=0.5) as ddl,
            pytest.raises(RetriableError, match=f"held by prepared transaction '{name}'") as refused,
        ):
            convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        assert refused.value.reason == "TableLocked"
    finally:
        database.execute(f"ROLLBACK PREPARED '{name}'")


def test_a_table_that_is_altered_meanwhile_is_left_as_it_is(
    any_postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alter(place: str) -> None:
        if place == "partition-checked":
            any_postgres_database.execute("ALTER TABLE events ADD COLUMN IF NOT EXISTS more int")

    any_postgres_database.execute("CREATE TABLE events AS SELECT now() AS at")
    with patient(any_postgres_database) as ddl:
        with monkeypatch.context() as patched:
            patched.setattr("millstream_pipelines.retention.convert.reached", alter)
            with pytest.raises(RetriableError, match="was altered while it was to be partitioned; run it again"):
                convert(ddl, table_facts(ddl, TABLE), BY)
        assert table_facts(ddl, TABLE).shape == "plain"
        assert any_postgres_database.execute("SELECT count(*) FROM pg_constraint WHERE conname LIKE 'mill%'") == [(0,)]
        convert(ddl, table_facts(ddl, TABLE), BY)
        assert table_facts(ddl, TABLE).shape == "ranges"


FULL = """
CREATE FUNCTION public.full() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  IF current_query() LIKE '%VALIDATE%' THEN RAISE 'no room' USING ERRCODE = 'disk_full'; END IF; END $$;
CREATE EVENT TRIGGER no_room ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION public.full()
"""


def test_a_check_that_was_not_validated_does_not_stay(any_postgres_database: Postgres) -> None:
    """One day it would refuse rows."""
    any_postgres_database.execute("CREATE TABLE events (id int, at timestamptz NOT NULL, PRIMARY KEY (id, at))")
    any_postgres_database.execute(FULL)
    with patient(any_postgres_database) as ddl, pytest.raises(MillstreamError, match="no room"):
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
    assert any_postgres_database.execute("SELECT FROM pg_constraint WHERE conname = 'millstream_before'") == []
    assert any_postgres_database.execute("SELECT FROM _millstream.conversions") == []


def test_an_autovacuum_gives_way(any_postgres_database: Postgres) -> None:
    """It is ended only for who waits longer than deadlock_timeout; this one would take minutes."""
    any_postgres_database.execute(
        "CREATE TABLE events AS SELECT now() AS at, g AS id FROM generate_series(1, 100000) g"
    )
    any_postgres_database.execute("DELETE FROM events WHERE id % 2 = 0")
    any_postgres_database.execute(
        "ALTER TABLE events SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)"
    )
    any_postgres_database.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    held = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'events'::regclass"
    try:
        any_postgres_database.execute("SELECT pg_reload_conf()")
        for _ in range(300):
            if any_postgres_database.execute(held) != [(0,)]:
                break
            time.sleep(0.1)
        with Ddl(migrated(any_postgres_database), "test", 0.3, patience_s=20) as ddl:
            convert(ddl, table_facts(ddl, TABLE), BY)
            assert ddl.waited_s > 0
    finally:
        any_postgres_database.execute("ALTER SYSTEM RESET autovacuum_naptime")
        any_postgres_database.execute("SELECT pg_reload_conf()")
    assert any_postgres_database.execute("SELECT count(*) FROM events") == [(50000,)]
