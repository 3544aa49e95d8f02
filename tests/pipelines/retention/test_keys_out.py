"""Foreign keys of a table that is split: they hold for its rows all the time, and never for a copy of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest

from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.failpoints import FailpointError
from millstream_pipelines.retention import copying, split, turning
from millstream_pipelines.retention.convert import convert
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.facts import table_facts
from millstream_pipelines.retention.partitions import create
from millstream_pipelines.retention.split import advance
from retained import BY, NOW, patient
from servers.plugin import any_postgres_database, newest_postgres_server, postgres_server
from servers.postgres import Postgres

__all__ = ["any_postgres_database", "newest_postgres_server", "postgres_server"]

TABLE = "public.events"
_TABLES = """
CREATE TABLE kinds (id int PRIMARY KEY); INSERT INTO kinds SELECT generate_series(0, 9);
CREATE TABLE events (id bigint, at timestamptz NOT NULL, kind int, PRIMARY KEY (id, at),
  CONSTRAINT of_kind FOREIGN KEY (kind) REFERENCES kinds ON DELETE RESTRICT DEFERRABLE);
COMMENT ON CONSTRAINT of_kind ON events IS 'which kind';
INSERT INTO events SELECT n, timestamptz '2026-06-15 00:00+00' + n * interval '2 hours', n % 10
  FROM generate_series(1, 2000) n;
"""
_KEYS = """
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid), k.convalidated, k.conparentid <> 0,
  obj_description(k.oid, 'pg_constraint')
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'f' AND k.confrelid = 'kinds'::regclass ORDER BY 1
"""


@pytest.mark.parametrize("place", [
    "split-batch", "split-renewed", "split-verified", "split-switched",
])  # fmt: skip
def test_who_deletes_children_and_then_the_parent_is_not_stopped(
    place: str, any_postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, deleted = any_postgres_database, []

    def reached(at: str) -> None:
        if at == place and not deleted:
            deleted.append(at)
            database.execute("DELETE FROM events WHERE kind = 4")
            database.execute("DELETE FROM kinds WHERE id = 4")

    database.execute(_TABLES)
    with patient(database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        for module in (copying, split):
            monkeypatch.setattr(module, "reached", reached)
        assert "is split" in advance(ddl, TABLE, BY, 60, now=NOW)
        database.execute("DELETE FROM events WHERE kind = 5")
        database.execute("DELETE FROM kinds WHERE id = 5")  # the old rows, apart, do not count
        with pytest.raises(psycopg2.IntegrityError, match='on table "events'):
            database.execute("DELETE FROM kinds WHERE id = 6")
        for moment in ("2026-07-01", "2027-02-03"):
            with pytest.raises(psycopg2.errors.ForeignKeyViolation):
                database.execute(f"INSERT INTO events VALUES (9999, '{moment}', 4)")
        assert_whole(database, ddl)


def assert_whole(database: Postgres, ddl: Ddl) -> None:
    """The table has its key, each partition its part of it, nobody else one."""
    found: list[Any] = database.execute(_KEYS)
    parts = [part.name.removeprefix("public.") for part in table_facts(ddl, TABLE).partitions]
    definition = "FOREIGN KEY (kind) REFERENCES kinds(id) ON DELETE RESTRICT DEFERRABLE"
    assert found == [
        ("events", "of_kind", definition, True, False, "which kind"),
        *((part, "of_kind", definition, True, True, None) for part in sorted(parts)),
    ]


def test_until_they_are_validated_each_partition_has_its_own(
    any_postgres_database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(place: str) -> None:
        if place == "split-switched":
            raise FailpointError(place)

    policy = RetentionPolicySpec.model_validate(
        {"warehouseRef": {"name": "dw"}, "tables": [{"name": TABLE, "partitionBy": BY.model_dump(by_alias=True)}]}
    )
    database = any_postgres_database
    database.execute(_TABLES)
    with patient(database) as ddl:
        convert(ddl, table_facts(ddl, TABLE), BY, NOW)
        with monkeypatch.context() as patched:
            patched.setattr(split, "reached", died)
            with pytest.raises(FailpointError):
                advance(ddl, TABLE, BY, 60, now=NOW)
        low, high = datetime(2027, 6, 1, tzinfo=UTC), datetime(2027, 7, 1, tzinfo=UTC)
        create(ddl, table_facts(ddl, TABLE), "public.events_p20270601", low, high)
        for moment in ("2026-07-01", "2027-02-03", "2027-06-03"):
            with pytest.raises(psycopg2.errors.ForeignKeyViolation):
                database.execute(f"INSERT INTO events VALUES (9999, '{moment}', 77)")
        [step] = turning.planned_split(ddl, TABLE, BY, policy, NOW)
        assert step.why == "foreign keys are to be validated for its rows"
        ddl.rows("SET client_min_messages = debug1")
        assert turning.go_on(ddl, step, BY, policy, NOW) == ""
        given_back = "".join(ddl.connection.notices).rpartition("VALIDATE")[2]
        assert given_back.count("validating foreign key constraint") <= 11  # each partition once, the table not
        assert turning.planned_split(ddl, TABLE, BY, policy, NOW) == []
        assert_whole(database, ddl)
