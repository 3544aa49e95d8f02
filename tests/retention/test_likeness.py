"""A partition that is made, by a run, a load or a restore, has the catalog rows of the newest one beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millstream_api import RunReport
from retention.policies import FLIGHTS, NOW, TABLE, carried_out, months, spec
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

# Everything by which two partitions of a table may differ, but their names, bounds, numbers and sizes.
LOOKS = {
    "table": "SELECT c.relpersistence, a.amname, c.reltablespace, c.reloptions, t.reloptions, "
    "c.relowner::regrole::text, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, "
    "obj_description(c.oid, 'pg_class') "
    "FROM pg_class c LEFT JOIN pg_am a ON a.oid = c.relam LEFT JOIN pg_class t ON t.oid = c.reltoastrelid "
    "WHERE c.oid = '{0}'::regclass",
    "grants": "SELECT x.grantee, x.privilege_type, x.is_grantable FROM pg_class c, aclexplode(c.relacl) x "
    "WHERE c.oid = '{0}'::regclass ORDER BY 1, 2",
    "grants of columns": "SELECT a.attname, x.grantee, x.privilege_type, x.is_grantable FROM pg_attribute a, "
    "aclexplode(a.attacl) x WHERE a.attrelid = '{0}'::regclass ORDER BY 1, 2, 3",
    "columns": "SELECT attname, atttypid, atttypmod, attnotnull, attstorage, attcompression, "
    "coalesce(attstattarget, -1), ARRAY(SELECT o FROM unnest(attoptions) o WHERE o ~ 'distinct'), "
    "attidentity, attgenerated, "
    "col_description(attrelid, attnum) FROM pg_attribute "
    "WHERE attrelid = '{0}'::regclass AND attnum > 0 ORDER BY attnum",
    "defaults": "SELECT adnum, pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = '{0}'::regclass ORDER BY 1",
    "indexes": "SELECT h.inhparent::regclass::text, x.indisunique, x.indisprimary, x.indisreplident, x.indisvalid, "
    "i.reloptions, i.reltablespace FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
    "LEFT JOIN pg_inherits h ON h.inhrelid = i.oid WHERE x.indrelid = '{0}'::regclass ORDER BY 1",
    "constraints": "SELECT contype, pg_get_constraintdef(oid), convalidated, coninhcount FROM pg_constraint "
    "WHERE conrelid = '{0}'::regclass ORDER BY 1, 2",
    "policies": "SELECT polname, polcmd, polpermissive, polroles::regrole[]::text, pg_get_expr(polqual, polrelid), "
    "pg_get_expr(polwithcheck, polrelid) FROM pg_policy WHERE polrelid = '{0}'::regclass ORDER BY 1",
    "triggers": "SELECT tgname, tgenabled, tgtype FROM pg_trigger WHERE tgrelid = '{0}'::regclass AND NOT tgisinternal "
    "ORDER BY 1",
    "statistics": "SELECT stxkeys::text, stxkind::text FROM pg_statistic_ext WHERE stxrelid = '{0}'::regclass",
}
PARENT = """
ALTER TABLE raw.flights ADD COLUMN n bigint GENERATED ALWAYS AS (id * 2) STORED, ADD CHECK (id >= 0);
CREATE INDEX by_tail ON raw.flights (tail) WITH (fillfactor = 80);
CREATE STATISTICS raw.both ON id, tail FROM raw.flights;
COMMENT ON COLUMN raw.flights.tail IS 'as painted';
COMMENT ON TABLE raw.flights IS 'departures';
CREATE FUNCTION raw.quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER told BEFORE INSERT ON raw.flights FOR EACH ROW EXECUTE FUNCTION raw.quiet();
"""
NEWEST = """
ALTER TABLE {0} SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_enabled = off);
ALTER TABLE {0} ALTER COLUMN tail SET STATISTICS 500, ALTER COLUMN id SET (n_distinct = 100);
ALTER TABLE {0} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON {0} AS RESTRICTIVE FOR UPDATE TO {1} USING (tail = 'N1') WITH CHECK (id > 0);
CREATE POLICY "All of us" ON {0} USING (true);
GRANT SELECT, INSERT ON {0} TO {1} WITH GRANT OPTION;
GRANT UPDATE (tail), REFERENCES (id) ON {0} TO {1}, PUBLIC;
COMMENT ON TABLE {0} IS 'departures';
COMMENT ON COLUMN {0}.tail IS 'as painted';
CREATE STATISTICS raw.own ON id, tail FROM {0};
"""


def done(report: RunReport) -> str:
    assert (report.exit_code, report.message) == (0, report.message)
    return report.message


def looks(database: Postgres, table: str) -> dict[str, Any]:
    return {name: database.execute(query.format(table)) for name, query in LOOKS.items()}


IDENTITIES = [
    "REPLICA IDENTITY FULL", "REPLICA IDENTITY NOTHING", "REPLICA IDENTITY USING INDEX flights_p20140101_pkey",
]  # fmt: skip


@pytest.mark.parametrize("identity", IDENTITIES)
def test_it_has_the_catalog_rows_of_the_newest(identity: str, any_postgres_database: Postgres, tmp_path: Path) -> None:
    database = any_postgres_database
    role = f"reader_{database.database}"
    owner = f"owner_{database.database}"
    database.execute(f"CREATE ROLE {role}; CREATE ROLE {owner}")
    try:
        database.execute(FLIGHTS)
        months(database, 13, 13)
        database.execute(PARENT)
        newest = "raw.flights_p20140101"
        database.execute(NEWEST.format(newest, role))
        database.execute(f"ALTER TABLE {newest} {identity}")
        database.execute(f"GRANT ALL ON SCHEMA raw TO {owner}")
        database.execute(f"ALTER TABLE {TABLE} OWNER TO {owner}")
        database.execute(f"ALTER TABLE {newest} OWNER TO {owner}")
        wanted = looks(database, newest)
        policy = spec(tmp_path, grace="0 days", keep={"age": "1 month"})
        done(carried_out(database, policy.model_copy(update={"keep": spec(keep={}).keep}), NOW))
        for table in ("raw.flights_p20140201", "raw.flights_p20140501"):
            assert looks(database, table) == wanted
    finally:
        database.execute(f"DROP OWNED BY {owner}, {role} CASCADE; DROP ROLE {owner}, {role}")


def test_what_is_restored_looks_so_too(any_postgres_database: Postgres, tmp_path: Path) -> None:
    database = any_postgres_database
    role = f"reader_{database.database}"
    database.execute(f"CREATE ROLE {role}")
    try:
        database.execute(FLIGHTS)
        months(database, 11, 13)
        database.execute(PARENT)
        newest = "raw.flights_p20140101"
        database.execute(NEWEST.format(newest, role))
        wanted = looks(database, newest)
        policy = spec(tmp_path, tables=[{"name": TABLE}], grace="0 days", keep={"age": "2 months"})
        assert "1 dropped" in carried_out(database, policy, NOW).message
        restore = {"table": TABLE, "from": "2013-11-05", "to": "2013-11-06"}
        done(carried_out(database, policy, NOW, restore=restore))
        assert looks(database, "raw.flights_p20131101") == wanted
    finally:
        database.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_unlogged_stays_unlogged_and_another_comment_is_its_own(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    database.execute(FLIGHTS)
    months(database, 13, 13)
    database.execute("ALTER TABLE raw.flights_p20140101 SET UNLOGGED")
    database.execute("COMMENT ON TABLE raw.flights_p20140101 IS 'January'")
    done(carried_out(database, spec(keep={}), NOW))
    assert looks(database, "raw.flights_p20140201")["table"] == [
        (*looks(database, "raw.flights_p20140101")["table"][0][:-1], None)
    ]


def test_the_first_partition_is_as_postgresql_would_make_it(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    role = f"reader_{database.database}"
    database.execute(f"CREATE ROLE {role}")
    try:
        database.execute(FLIGHTS)
        database.execute(PARENT)
        database.execute(f"GRANT ALL ON SCHEMA raw TO {role}; GRANT SELECT ON {TABLE} TO PUBLIC")
        database.execute(f"ALTER TABLE {TABLE} ALTER COLUMN tail SET STATISTICS 500, ENABLE ROW LEVEL SECURITY")
        database.execute(f"ALTER TABLE {TABLE} OWNER TO {role}")
        done(carried_out(database, spec(keep={}), NOW))
        database.execute(
            "CREATE TABLE raw.theirs PARTITION OF raw.flights FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')"
        )
        database.execute(f"ALTER TABLE raw.theirs OWNER TO {role}")
        database.execute("ALTER TABLE raw.theirs ALTER COLUMN tail SET STATISTICS 500")
        mine, theirs = looks(database, "raw.flights_p20140201"), looks(database, "raw.theirs")
        different = {name for name in mine if mine[name] != theirs[name]}
        assert different <= {"columns", "statistics"}  # LIKE takes comments and statistics along
    finally:
        database.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
