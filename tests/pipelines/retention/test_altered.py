"""People alter a table while its old range is split: the partitions are like the table in the end, nobody waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from millstream_pipelines.retention import copying, split
from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.split import advance
from retained import BY, NOW, Traffic, patient
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

TABLE = "public.events"
ROWS = 3000
_TABLE = f"""
CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, kind int NOT NULL DEFAULT 0,
  amount numeric(12,2) CONSTRAINT positive CHECK (amount >= 0), note text, number bigint,
  CONSTRAINT events_key PRIMARY KEY (id, at), CONSTRAINT numbered UNIQUE (number, at));
INSERT INTO events (at, amount, note, number)
  SELECT timestamptz '2026-06-15 00:00+00' + n * interval '1 hours', n, 'row ' || n, n
  FROM generate_series(1, {ROWS}) n;
"""
_CHILDREN = """
SELECT count(*), count(*) FILTER (WHERE {}) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'events'::regclass AND c.relname LIKE 'events_p%'
"""
_HAS_INDEX = """EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisvalid
  AND pg_get_indexdef(x.indexrelid) LIKE '%{}%' AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = x.indexrelid))"""
_HAS_CHECK = "EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.conname = '{}' AND k.convalidated)"

_NOTED = """CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO public.audit VALUES (NEW.id); RETURN NEW; END'"""
_NOTE_IT = """CREATE TRIGGER note_it AFTER UPDATE ON events FOR EACH ROW WHEN (NEW.note = 'trigger')
  EXECUTE FUNCTION noted()"""
_NAMES = """SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
  WHERE attrelid = 'events_p20260701'::regclass AND attnum > 0"""
_TYPE = """SELECT format_type(atttypid, atttypmod) FROM pg_attribute
  WHERE attrelid = 'events_p20260701'::regclass AND attname = 'note'"""


@pytest.fixture
def ddl(any_postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(copying, "_BATCH_ROWS", 1000)
    any_postgres_database.execute(_TABLE)
    with patient(any_postgres_database) as session:
        session.rows("SET client_min_messages = debug1")
        convert(session, table_facts(session, TABLE), BY, NOW)
        yield session


Deeds = dict[str, Sequence[str | Callable[[], None]]]


def split_while(database: Postgres, ddl: Ddl, monkeypatch: pytest.MonkeyPatch, deeds: Deeds) -> str:
    """Split; when a place is reached for the first time, its statements are run by somebody else."""
    left = dict(deeds)

    def reached(place: str) -> None:
        for deed in left.pop(place, ()):
            deed() if callable(deed) else database.execute(deed)

    settled = split._Split._settled

    def under_locks(self: split._Split) -> None:
        settled(self)
        ddl.connection.notices.clear()

    monkeypatch.setattr(split._Split, "_settled", under_locks)
    for module in (copying, split):
        monkeypatch.setattr(module, "reached", reached)
    told = advance(ddl, TABLE, BY, 60, now=NOW)
    assert left == {}
    return told


def pieces_with(database: Postgres, condition: str) -> bool:
    """Return whether all partitions fulfil a condition on `c`."""
    number, fit = database.execute(_CHILDREN.format(condition))[0]
    return bool(number >= 7 and number == fit)


def writers(database: Postgres) -> Traffic:
    going = Traffic(database)

    def insert(cursor: Any, n: int) -> None:
        cursor.execute("INSERT INTO events (at, amount, note) VALUES ('2026-08-01', 1, 'new')")

    def update(cursor: Any, n: int) -> None:
        cursor.execute("UPDATE events SET amount = amount + 1 WHERE id = %s", (n % ROWS + 1,))

    def count(cursor: Any, _: int) -> None:
        cursor.execute(f"SELECT count(*) FROM events WHERE id <= {ROWS}")
        assert cursor.fetchone() == (ROWS,)

    going.start(insert, update, count)
    return going


def test_what_the_copy_can_follow(any_postgres_database: Postgres, ddl: Ddl, monkeypatch: pytest.MonkeyPatch) -> None:
    database = any_postgres_database
    database.execute("CREATE INDEX before ON events (kind)")
    going = writers(database)
    try:
        told = split_while(database, ddl, monkeypatch, {
            "split-begun": ["CREATE INDEX early ON events (lower(note)) WHERE note IS NOT NULL"],
            "split-batch": [
                "ALTER TABLE events DROP CONSTRAINT positive", "ALTER TABLE events ALTER kind DROP NOT NULL",
                "INSERT INTO events (at, amount, kind, note) VALUES ('2026-07-01', -5, NULL, 'loose')",
                "INSERT INTO events (at, note, number) VALUES ('2026-07-02', 'unnumbered', 77)",
            ],
            "split-indexed": [
                "ALTER TABLE events DROP CONSTRAINT numbered",
                "INSERT INTO events (at, note, number) VALUES ('2026-07-02', 'unnumbered', 77)",
                "CREATE INDEX late ON events (kind, amount) INCLUDE (note)",
            ],
            "split-verified": [
                "DELETE FROM events WHERE note IN ('loose', 'unnumbered')",
                "CREATE UNIQUE INDEX last ON events (id, at, note) NULLS NOT DISTINCT",
                "ALTER TABLE events ADD CONSTRAINT sane CHECK (amount > -1)",
                "ALTER TABLE events ALTER kind SET NOT NULL",
                "CREATE INDEX parts ON ONLY events (note)", "CREATE INDEX parts_1 ON events_before (note)",
                "DROP INDEX before",
                "CREATE TABLE audit (id bigint)",
                _NOTED, _NOTE_IT,
                "GRANT SELECT (note) ON events TO PUBLIC", "COMMENT ON COLUMN events.note IS 'free'",
                "VACUUM (FULL) events_before",
            ],
        })  # fmt: skip
    finally:
        going.stop()
    assert going.errors == []
    assert "is split into" in told
    under_locks = "".join(ddl.connection.notices)
    assert 'partition constraint for table "events_p20260701" is implied' in under_locks
    assert "building index" not in under_locks
    assert "verifying table" not in under_locks
    for index in ("lower(note)", "(kind, amount) INCLUDE (note)", "(id, at, note) NULLS NOT DISTINCT", "(note)"):
        assert pieces_with(database, _HAS_INDEX.format(index)), index
    assert pieces_with(database, _HAS_CHECK.format("sane"))
    assert not pieces_with(database, _HAS_CHECK.format("positive"))
    assert database.execute(_CHILDREN.format(_HAS_INDEX.format("(number, at)")))[0][1] == 0
    assert pieces_with(database, "(SELECT attnotnull FROM pg_attribute WHERE attrelid = c.oid AND attname = 'kind')")
    assert database.execute("SELECT id, note FROM events WHERE amount < 0 OR number = 77 AND id <> 77") == []
    database.execute("UPDATE events SET note = 'trigger' WHERE id = 5")
    assert database.execute("SELECT * FROM audit") == [(5,)]
    assert database.execute("SELECT attacl::text FROM pg_attribute WHERE attrelid = 'events'::regclass "
                            "AND attname = 'note'")[0][0].startswith("{=r/")  # fmt: skip
    assert database.execute("SELECT count(*) FILTER (WHERE note = 'new') > 0 FROM events") == [(True,)]


@pytest.mark.parametrize("place", ["split-batch", "split-verified"])
@pytest.mark.parametrize(("altered", "asked", "expected"), [
    (["ALTER TABLE events ADD COLUMN colour text DEFAULT 'red'", "UPDATE events SET colour = 'blue' WHERE id = 9"],
     "SELECT string_agg(DISTINCT colour, ' '), count(colour) FROM events", [("blue red", ROWS)]),
    (["ALTER TABLE events DROP COLUMN note"], _NAMES, [("id at kind amount number",)]),
    (["ALTER TABLE events ALTER amount TYPE numeric(12,2) USING amount * 100"],
     "SELECT sum(amount)::int / 100 FROM events", [(ROWS * (ROWS + 1) // 2,)]),
    (["ALTER TABLE events DROP COLUMN number", "ALTER TABLE events ADD COLUMN number bigint DEFAULT 7"],
     "SELECT DISTINCT number FROM events", [(7,)]),
    (["ALTER TABLE events ALTER note TYPE varchar(40)"], _TYPE, [("character varying(40)",)]),
    (["TRUNCATE events", "INSERT INTO events (at, note) VALUES ('2026-07-01', 'after')"],
     "SELECT note FROM events", [("after",)]),
    (["ALTER TABLE events_before DISABLE TRIGGER ALL", "UPDATE events SET note = 'unseen' WHERE id < 10"],
     "SELECT count(*) FROM events WHERE note = 'unseen'", [(9,)]),
], ids=lambda value: value[0][:40] if isinstance(value, list) and isinstance(value[0], str) else "")  # fmt: skip
def test_what_begins_anew(
    place: str, altered: list[str], asked: str, expected: list[Any], any_postgres_database: Postgres, ddl: Ddl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert "is split into" in split_while(any_postgres_database, ddl, monkeypatch, {place: altered})
    assert any_postgres_database.execute(asked) == expected
    assert any_postgres_database.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'mill%'") == [(0,)]


def test_another_interval_in_mid_split(any_postgres_database: Postgres, ddl: Ddl) -> None:
    assert "copied" in advance(ddl, TABLE, BY, -1, now=NOW)
    quarters = BY.model_copy(update={"interval": "1 quarter"})
    assert "is split into 4 partitions" in advance(ddl, TABLE, quarters, 60, now=NOW)
    assert any_postgres_database.execute("SELECT count(*) FROM events") == [(ROWS,)]


def test_a_check_that_old_rows_break_is_named(any_postgres_database: Postgres, ddl: Ddl) -> None:
    from millstream_pipelines.errors import DataError

    any_postgres_database.execute("ALTER TABLE events ADD CONSTRAINT small CHECK (amount < 100) NOT VALID")
    with pytest.raises(DataError, match=r"small.*correct the rows and ALTER TABLE .* VALIDATE CONSTRAINT"):
        advance(ddl, TABLE, BY, 60, now=NOW)
    any_postgres_database.execute("ALTER TABLE events DROP CONSTRAINT small")
    assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)
