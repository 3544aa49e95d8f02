"""A plain table with all that can hang on one, and what looks at it from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import psycopg2

from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.warehouses._postgres import metadata
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig, connect
from servers.postgres import Postgres

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BY = PartitionBy(column="at", interval="1 month", premake=2, convert=True)

FURNISHED = """
CREATE ROLE {r}_reader; CREATE ROLE {r}_writer;
CREATE TABLE kinds (id int PRIMARY KEY, name text);
INSERT INTO kinds SELECT n, 'kind ' || n FROM generate_series(0, 4) n;
CREATE TABLE events (
  id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, kind int NOT NULL DEFAULT 0,
  amount numeric(12,2) CONSTRAINT positive CHECK (amount >= 0), note text,
  double numeric GENERATED ALWAYS AS (amount * 2) STORED,
  number serial, CONSTRAINT events_key PRIMARY KEY (id, at), CONSTRAINT noted UNIQUE (number, at),
  CONSTRAINT of_kind FOREIGN KEY (kind) REFERENCES kinds) WITH (fillfactor = 90);
INSERT INTO events (at, kind, amount, note)
  SELECT timestamptz '2026-06-15 00:00+00' + n * interval '2 hours', n % 5, n, 'row ' || n
  FROM generate_series(0, 1999) n;
CREATE TABLE refunds (id int PRIMARY KEY, event bigint, event_at timestamptz,
  CONSTRAINT of_event FOREIGN KEY (event, event_at) REFERENCES events (id, at));
COMMENT ON CONSTRAINT of_event ON refunds IS 'what is paid back';
INSERT INTO refunds SELECT 1, id, at FROM events ORDER BY id LIMIT 1;
CREATE INDEX by_note ON events (lower(note)) WHERE note IS NOT NULL;
CREATE INDEX by_at ON events (at);
CREATE STATISTICS together ON kind, amount FROM events;
ALTER TABLE events ALTER COLUMN note SET STATISTICS 500;
COMMENT ON TABLE events IS 'what happened'; COMMENT ON COLUMN events.note IS 'free text';
COMMENT ON INDEX by_note IS 'for search'; COMMENT ON CONSTRAINT events_key ON events IS 'the key';
GRANT SELECT ON events TO {r}_reader; GRANT INSERT, UPDATE (note) ON events TO {r}_writer;
CREATE VIEW big WITH (security_barrier) AS SELECT id, at, amount FROM events WHERE amount > 1000;
CREATE VIEW bigger AS SELECT * FROM big WHERE amount > 1500;
GRANT SELECT ON big TO {r}_reader;
CREATE TABLE audit (id bigint, op text);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO public.audit VALUES (NEW.id, TG_OP); RETURN NEW; END $$;
CREATE TRIGGER note_it AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TRIGGER off AFTER UPDATE ON events FOR EACH ROW EXECUTE FUNCTION noted();
ALTER TABLE events DISABLE TRIGGER off;
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_kinds ON events FOR SELECT TO {r}_reader USING (kind < 4);
CREATE POLICY writing ON events FOR INSERT TO {r}_writer WITH CHECK (kind < 4);
ALTER TABLE events REPLICA IDENTITY FULL;
"""


@contextmanager
def furnished(database: Postgres) -> Iterator[str]:
    """Make the table `public.events` with everything; yield the prefix of its roles."""
    prefix = database.database
    database.execute(FURNISHED.replace("{r}", prefix))
    try:
        yield prefix
    finally:
        for role in ("reader", "writer"):
            _disowned(database, f"{prefix}_{role}")
            database.execute(f"DROP ROLE {prefix}_{role}")


def _disowned(database: Postgres, role: str) -> None:
    while True:
        with suppress(psycopg2.errors.DeadlockDetected):  # with an autovacuum
            database.execute(f"DROP OWNED BY {role}")
            return


@contextmanager
def tablespace(database: Postgres) -> Iterator[str]:
    """Make a tablespace and yield its name, quoted; what is in it must be dropped in the block."""
    name = f'"{database.database} room"'
    session = psycopg2.connect(database.dsn)
    session.autocommit = True
    with session.cursor() as cursor:
        cursor.execute("SET allow_in_place_tablespaces = on")
        cursor.execute(f"CREATE TABLESPACE {name} LOCATION ''")
    session.close()
    yield name
    database.execute(f"DROP TABLESPACE {name}")


def migrated(database: Postgres) -> PostgresConfig:
    """Make `_millstream` in a database, and return how to reach it."""
    config = PostgresConfig.model_validate(database.config)
    connection = connect(config, "test")
    metadata.migrate(connection, "test")
    connection.close()
    return config


def patient(database: Postgres, lock_timeout_s: float = 0.5) -> Ddl:
    """Return a session that alters tables as a policy's run does."""
    return Ddl(migrated(database), "test", lock_timeout_s)


class Traffic:
    """Sessions that go on and on with what they do; whatever a statement raises is kept in `errors`."""

    def __init__(self, database: Postgres) -> None:
        self.errors: list[str] = []
        self.done = 0
        self._database, self._ended, self._threads = database, threading.Event(), []

    def start(self, *actions: Callable[[Any, int], None]) -> None:
        """Start a thread for each action, which is called with a cursor in autocommit and a growing number."""
        for action in actions:
            thread = threading.Thread(target=self._go, args=(action,))
            self._threads.append(thread)
            thread.start()

    def _go(self, action: Callable[[Any, int], None]) -> None:
        connection = psycopg2.connect(self._database.dsn)
        connection.autocommit = True
        count = 0
        try:
            with connection.cursor() as cursor:
                while not self._ended.wait(0.002):
                    action(cursor, count)
                    count += 1
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        finally:
            self.done += count
            connection.close()

    def stop(self) -> None:
        """End all and wait for them."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
