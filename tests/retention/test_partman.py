"""Tables that pg_partman manages, or has managed: refused, and told what to do."""

from __future__ import annotations

import pytest

from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, spec
from servers.plugin import partman_database, partman_server
from servers.postgres import Postgres

__all__ = ["partman_database", "partman_server"]

MANAGED = "SELECT partman.create_parent('raw.flights', 'time_hour', 'native', 'monthly')"


def refusal(database: Postgres) -> str:
    before = attached(database)
    report = carried_out(database, spec(), NOW)
    assert (report.exit_code, attached(database)) == (78, before)
    return report.message


def test_a_table_that_pg_partman_manages_is_refused(partman_database: Postgres) -> None:
    partman_database.execute(FLIGHTS)
    partman_database.execute(MANAGED)
    assert len(attached(partman_database)) > 5
    message = refusal(partman_database)
    assert "pg_partman manages it; a table has one manager" in message
    assert "DELETE FROM partman.part_config WHERE parent_table = 'raw.flights' (its partitions stay)" in message
    partman_database.execute("DELETE FROM partman.part_config WHERE parent_table = 'raw.flights'")
    partman_database.execute("DROP TABLE raw.flights_default")
    assert carried_out(partman_database, spec(keep={}), NOW).message == "raw.flights: 4 made"


def test_another_table_beside_it_is_ours(partman_database: Postgres) -> None:
    partman_database.execute(FLIGHTS)
    partman_database.execute("CREATE TABLE raw.other (LIKE raw.flights) PARTITION BY RANGE (time_hour)")
    partman_database.execute(MANAGED.replace("raw.flights", "raw.other"))
    assert carried_out(partman_database, spec(keep={}), NOW).message == "raw.flights: 4 made"


@pytest.mark.parametrize(("left", "words"), [
    ("UPDATE partman.part_config SET automatic_maintenance = 'off'", "though its maintenance is off"),
    ("DROP TABLE raw.flights; CREATE TABLE raw.flights (time_hour timestamptz)", "though the table is not partitioned"),
])  # fmt: skip
def test_a_row_that_is_left_over_is_named(left: str, words: str, partman_database: Postgres) -> None:
    partman_database.execute(FLIGHTS)
    partman_database.execute(MANAGED)
    partman_database.execute(left)
    message = refusal(partman_database)
    assert words in message
    assert "if that is left over: DELETE FROM partman.part_config WHERE parent_table = 'raw.flights'" in message


def test_the_extension_may_lie_in_any_schema(partman_database: Postgres) -> None:
    partman_database.execute("DROP EXTENSION pg_partman; CREATE EXTENSION pg_partman SCHEMA public")
    partman_database.execute(FLIGHTS)
    partman_database.execute(MANAGED.replace("partman.", ""))
    assert "DELETE FROM public.part_config" in refusal(partman_database)


def test_what_is_left_of_a_dropped_extension_is_named(partman_database: Postgres) -> None:
    partman_database.execute(FLIGHTS)
    partman_database.execute(MANAGED)
    partman_database.execute("CREATE TABLE kept AS TABLE partman.part_config; DROP EXTENSION pg_partman")
    partman_database.execute("ALTER TABLE kept RENAME TO part_config; ALTER TABLE part_config SET SCHEMA partman")
    assert "though the extension is gone" in refusal(partman_database)


def test_a_role_that_may_not_look_is_told_what_it_needs(partman_database: Postgres) -> None:
    partman_database.execute(FLIGHTS)
    role = f"loader_{partman_database.database}"
    partman_database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        for grant in (f"DATABASE {partman_database.database}", "SCHEMA raw"):
            partman_database.execute(f"GRANT ALL ON {grant} TO {role}")
        partman_database.execute(f"ALTER TABLE {TABLE} OWNER TO {role}")
        narrow = Postgres(partman_database.host, partman_database.port, role, "x", partman_database.database)
        message = carried_out(narrow, spec(), NOW).message
        assert f"role {role} may not read partman.part_config; GRANT USAGE ON SCHEMA partman" in message
    finally:
        partman_database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
