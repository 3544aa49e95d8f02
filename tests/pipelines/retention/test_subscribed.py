"""Logical replication goes by a table's number: rows for one that was put aside would be lost without a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.retention.convert import convert, plan
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.split import advance
from retained import BY, NOW, patient
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

TABLE = "public.events"
PLAIN = "CREATE TABLE {} (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at))"


@contextmanager
def subscribed(database: Postgres, table: str) -> Iterator[str]:
    """Subscribe to changes of a table of this name in another database; yield the subscription's name."""
    name = f"s_{database.database}"
    with database.fresh_database() as source:
        source.execute(PLAIN.format(table))
        source.execute(f"CREATE PUBLICATION p FOR TABLE {table}")
        # Without a slot nothing arrives and nothing is left behind; the catalog says the same.
        database.execute(
            f"CREATE SUBSCRIPTION {name} CONNECTION '{source.dsn}' PUBLICATION p "
            "WITH (enabled = false, create_slot = false, slot_name = NONE)"
        )
        try:
            yield name
        finally:
            database.execute(f"DROP SUBSCRIPTION {name}")


def test_a_table_that_a_subscription_fills_is_not_turned(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    database.execute(PLAIN.format("events"))
    with subscribed(database, "events") as name, patient(database) as ddl:
        facts = table_facts(ddl, TABLE)
        assert [f"subscription {name} brings" in text for text in plan(ddl, facts, BY, NOW)] == [True]
        with pytest.raises(ConfigurationError, match=name):
            convert(ddl, facts, BY, NOW)
    with patient(database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)


def test_an_old_range_that_a_subscription_fills_stays_whole(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    database.execute(PLAIN.format("events"))
    with patient(database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        with subscribed(database, "events_before") as name:
            assert f"subscription {name} brings rows into public.events_before" in advance(ddl, TABLE, BY, 60, now=NOW)
        assert database.execute("SELECT state FROM _millstream.conversions") == [("whole",)]


def test_who_is_no_superuser_sees_subscriptions(any_postgres_database: Postgres) -> None:
    database = any_postgres_database
    role = f"{database.database}_owner"
    database.execute(f"CREATE ROLE {role}; {PLAIN.format('events')}; ALTER TABLE events OWNER TO {role}")
    try:
        with subscribed(database, "events") as name, patient(database) as ddl:
            ddl.rows(f"SET ROLE {role}")
            assert name in "".join(plan(ddl, table_facts(ddl, TABLE), BY, NOW))
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
