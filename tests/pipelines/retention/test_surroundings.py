"""What a plan says where turning a table would fail for a reason outside it: names, rights, a type's end, sessions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import psycopg2
import pytest

from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention.convert import convert, plan
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.split import advance
from retained import BY, NOW, migrated, patient, tablespace
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_database", "postgres_server"]

TABLE = "public.events"


def refused(ddl: Ddl, by: PartitionBy = BY, now: datetime = NOW, table: str = TABLE) -> list[str]:
    """Return what a plan says, which a run says, too, before it changes anything."""
    found = plan(ddl, table_facts(ddl, table), by, now)
    if found:
        with pytest.raises(ConfigurationError, match="Nothing was changed") as raised:
            convert(ddl, table_facts(ddl, table), by, now)
        assert all(text in str(raised.value) for text in found)
    return found


def test_names_that_are_taken(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    database.execute(
        "CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, note text, "
        "CONSTRAINT one PRIMARY KEY (id, at)); CREATE INDEX by_note ON events (note); "
        "CREATE STATISTICS both_of ON id, at FROM events"
    )
    takers = {
        "events_before": "VIEW events_before AS SELECT 1", "one_before": "TABLE one_before ()",
        "by_note_before": "INDEX by_note_before ON events (note)",
        "events_id_seq_before": "SEQUENCE events_id_seq_before",
        "both_of_before": "STATISTICS both_of_before ON at, note FROM events",
    }  # fmt: skip
    with patient(database) as ddl:
        assert refused(ddl) == []
        for name, made in takers.items():
            database.execute(f"CREATE {made}")
            [said] = refused(ddl)
            assert said.startswith(f"the name {name}, which ")
            database.execute(f"DROP {made.split()[0]} {name}")
        database.execute("CREATE TYPE events_before AS ENUM ()")
        assert len(refused(ddl)) == 1
        database.execute("DROP TYPE events_before")
        assert "is partitioned now" in convert(ddl, table_facts(ddl, TABLE), BY, NOW)


@pytest.fixture
def login(any_postgres_database: Postgres) -> Iterator[Postgres]:
    """A role that may use a table of another one in `raw`."""
    database, role = any_postgres_database, any_postgres_database.database
    migrated(database)
    for statement in (
        f"CREATE ROLE {role}_owner", f"CREATE ROLE {role} LOGIN PASSWORD 'x' IN ROLE {role}_owner", "CREATE SCHEMA raw",
        "CREATE TABLE raw.events (at timestamptz NOT NULL)", f"ALTER TABLE raw.events OWNER TO {role}_owner",
        f"GRANT USAGE ON SCHEMA raw TO {role}, {role}_owner", f"GRANT ALL ON SCHEMA _millstream TO {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA _millstream TO {role}",
    ):  # fmt: skip
        database.execute(statement)
    yield Postgres(database.host, database.port, role, "x", database.database)
    database.execute(f"DROP OWNED BY {role}, {role}_owner CASCADE")
    database.execute(f"DROP ROLE {role}, {role}_owner")


def test_rights_that_lack(login: Postgres, any_postgres_database: Postgres) -> None:
    from millstream_pipelines.warehouses._postgres.connection import PostgresConfig

    role, table = login.user, "raw.events"
    with Ddl(PostgresConfig.model_validate(login.config), "test", 0.5) as ddl:
        [own, owner] = refused(ddl, table=table)
        assert own == f'role {role} may not make tables in schema raw; GRANT CREATE ON SCHEMA "raw" TO "{role}"'
        assert f"role {role}_owner, its owner, may own no new table" in owner
        assert owner.endswith(f'; GRANT CREATE ON SCHEMA "raw" TO "{role}_owner"')
        any_postgres_database.execute(f"GRANT CREATE ON SCHEMA raw TO {role}_owner")
        assert refused(ddl, table=table) == []  # its members have what it has
        any_postgres_database.execute(f"REVOKE CREATE ON SCHEMA raw FROM {role}_owner")
        any_postgres_database.execute(f"GRANT CREATE ON SCHEMA raw TO {role}")
        assert refused(ddl, table=table) == [owner]
        any_postgres_database.execute(f"GRANT CREATE ON SCHEMA raw TO {role}_owner")
        with tablespace(any_postgres_database) as space:
            any_postgres_database.execute(f"CREATE INDEX by_at ON raw.events (at) TABLESPACE {space}")
            [said] = refused(ddl, table=table)
            assert said.endswith(f'GRANT CREATE ON TABLESPACE {space} TO "{role}"')
            any_postgres_database.execute("DROP INDEX raw.by_at")
        if ddl.connection.server_version >= 160000:
            any_postgres_database.execute(f"GRANT {role}_owner TO {role} WITH SET FALSE")
            assert "may not give tables away" in refused(ddl, table=table)[0]
            any_postgres_database.execute(f"GRANT {role}_owner TO {role} WITH SET TRUE")
        assert "is partitioned now" in convert(ddl, table_facts(ddl, table), BY, NOW)


@pytest.mark.parametrize(("kind", "largest", "by", "at", "most"), [
    ("smallint", 32_000, {"interval": "1000"}, 37_000, 32_767),
    ("smallint", 28_000, {"interval": "1000"}, 33_000, 32_767),
    ("smallint", 20_000, {"interval": "1000"}, None, None),
    ("integer", 2_145_000_000, {"interval": "1 month", "timeAs": "seconds"}, 2_156_284_800, 2_147_483_647),
    ("integer", 1_700_000_000, {"interval": "1 month", "timeAs": "seconds"}, None, None),
    ("integer", 1_700_000_000, {"interval": "5 years", "timeAs": "seconds"}, 2_524_608_000, 2_147_483_647),
    ("bigint", 2**63 - 10, {"interval": "1000"}, 9_223_372_036_854_780_000, 2**63 - 1),
])  # fmt: skip
def test_bounds_beyond_the_type(
    kind: str, largest: int, by: dict[str, str], at: int | None, most: int | None, postgres_database: Postgres
) -> None:
    postgres_database.execute(f"CREATE TABLE events AS SELECT {largest}::{kind} AS at")
    chosen = PartitionBy.model_validate({"column": "at", "premake": 2, "convert": True} | by)
    with patient(postgres_database) as ddl:
        found = refused(ddl, chosen)
        if at is None:
            assert found == []
            assert "is partitioned now" in convert(ddl, table_facts(ddl, TABLE), chosen, NOW)
        else:
            assert f"end at {at}, and 'at' is {kind}, up to {most}" in found[0]


def test_a_temporary_view_of_another_session(any_postgres_database: Postgres) -> None:
    any_postgres_database.execute("CREATE TABLE events (at timestamptz NOT NULL)")
    session = psycopg2.connect(any_postgres_database.dsn)
    with patient(any_postgres_database) as ddl:
        with session.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY VIEW mine AS SELECT * FROM public.events")
        session.commit()
        [said] = refused(ddl)
        assert said.startswith("temporary view pg_temp_")
        assert "mine can be made anew by its own session alone" in said
        session.close()


@pytest.mark.parametrize("made", ["TABLE {} (id int)", "TYPE {} AS ENUM ()", "VIEW {} AS SELECT 1"])
def test_names_of_partitions_that_are_taken(made: str, postgres_database: Postgres) -> None:
    postgres_database.execute(
        "CREATE TABLE events (at timestamptz PRIMARY KEY); "
        "INSERT INTO events SELECT timestamptz '2026-06-15' + n * interval '1 day' FROM generate_series(1, 90) n"
    )
    with patient(postgres_database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        postgres_database.execute(f"CREATE {made.format('events_p20260801')}")
        with pytest.raises(ConfigurationError, match=r"that are taken \(public.events_p20260801\); rename or drop"):
            advance(ddl, TABLE, BY, 60, now=NOW)
        postgres_database.execute(f"DROP {made.split()[0]} events_p20260801")
        assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)


@pytest.mark.parametrize("table", ["public.events", "public.Odd table", "public.order"])
def test_a_view_of_the_table_alone(table: str, any_postgres_database: Postgres) -> None:
    name = f'"{table.removeprefix("public.")}"'
    any_postgres_database.execute(f"CREATE TABLE {name} (at timestamptz NOT NULL)")
    any_postgres_database.execute(f'CREATE TABLE {name[:-1]}2" (at timestamptz NOT NULL)')
    with patient(any_postgres_database) as ddl:
        other = f'SELECT at FROM ONLY {name[:-1]}2" UNION ALL SELECT at FROM {name}'
        any_postgres_database.execute(f"CREATE VIEW seen AS {other} FETCH FIRST 3 ROWS ONLY")
        assert refused(ddl, table=table) == []
        any_postgres_database.execute(f"CREATE VIEW alone AS SELECT u.at FROM ONLY {name} u")
        [said] = refused(ddl, table=table)
        assert said.startswith("view public.alone reads FROM ONLY it")
