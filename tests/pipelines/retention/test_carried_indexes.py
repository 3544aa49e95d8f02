"""Where the indexes of a table lie, and how full they are: the same after the conversion and on each partition."""

from __future__ import annotations

import pytest

from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.split import advance
from retained import BY, NOW, patient, tablespace
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

TABLE = "public.events"
_IN_ROOM = """
SELECT x.indisprimary, x.indisunique, i.reloptions, s.spcname IS NOT NULL, regexp_replace(pg_get_indexdef(i.oid),
  '^.* USING ', ''), (SELECT condeferrable FROM pg_constraint WHERE conindid = i.oid AND contype IN ('p', 'u'))
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid LEFT JOIN pg_tablespace s ON s.oid = i.reltablespace
WHERE x.indrelid = '{}'::regclass ORDER BY 5, 1
"""


_FILLED = """
ALTER TABLE events ADD UNIQUE (note, at) WITH (fillfactor = 72, deduplicate_items = off) USING INDEX TABLESPACE {}
  DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE events ADD UNIQUE (at, note, id) WITH (fillfactor = 73) DEFERRABLE;
CREATE INDEX ON events (lower(note)) WITH (fillfactor = 74) TABLESPACE {} WHERE note <> ' WHERE ';
CREATE INDEX ON events (note) WITH (fillfactor = 75);
INSERT INTO events SELECT n, timestamptz '2026-10-01' + n * interval '1 hour', n FROM generate_series(1, 500) n
"""
_KEY = "ALTER TABLE events ADD PRIMARY KEY (id, at) WITH (fillfactor = 71) USING INDEX TABLESPACE {};"
_IDENTITY = """
CREATE UNIQUE INDEX one ON events (id, at) WITH (fillfactor = 71) TABLESPACE {};
ALTER TABLE events REPLICA IDENTITY USING INDEX one;
"""


@pytest.mark.parametrize("key", [_KEY, _IDENTITY], ids=["key", "identity"])
def test_indexes_stay_where_they_are_and_as_full(key: str, any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    with tablespace(database) as space:
        database.execute("CREATE TABLE events (id int NOT NULL, at timestamptz NOT NULL, note text)")
        database.execute((key + _FILLED).replace("{}", space))
        before = database.execute(_IN_ROOM.format("events"))
        with patient(database) as ddl:
            convert(ddl, table_facts(ddl, TABLE), BY, NOW)
            assert "0 rows of public.events_before are copied" in advance(ddl, TABLE, BY, -1, now=NOW)
            assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)
            for name in (TABLE, *(part.name for part in table_facts(ddl, TABLE).partitions)):
                assert database.execute(_IN_ROOM.format(name)) == before, name
        database.execute("DROP TABLE events, events_before")
