"""A limit of the database's size: what is on its way out counts no more, so one partition too many takes one out."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from retention.policies import FLIGHTS, NOW, TABLE, attached, carried_out, months, spec
from servers.plugin import newest_postgres_server, postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["newest_postgres_server", "postgres_database", "postgres_server"]

_MIB = 2**20
_WIDE = f"""
INSERT INTO {TABLE} SELECT time_hour, 1000 + id,
  (SELECT string_agg(md5((id * g)::text), '') FROM generate_series(1, 1200) g) FROM {TABLE}
"""


def size_of(database: Postgres) -> int:
    return int(database.execute("SELECT pg_database_size(current_database())")[0][0])


def retired(database: Postgres) -> list[tuple[str]]:
    return database.execute("SELECT partition FROM _millstream.retired ORDER BY low")


def full(database: Postgres, folder: Path) -> None:
    """Six months of some 4 MiB each."""
    database.execute(FLIGHTS)
    months(database, 8, 13)
    assert carried_out(database, spec(folder, keep={"age": "20 years"})).exit_code == 0
    database.execute(_WIDE)


def test_a_disk_that_is_too_full_takes_out_what_it_must_and_no_more(
    postgres_database: Postgres, tmp_path: Path
) -> None:
    full(postgres_database, tmp_path)
    policy = spec(tmp_path, keep={"diskPressure": "100%", "diskSize": str(size_of(postgres_database) - _MIB)})
    for day in range(3):
        report = carried_out(postgres_database, policy, NOW + timedelta(days=day))
        assert report.exit_code == 0, report.message
    assert retired(postgres_database) == [("raw.flights_p20130801",)], "its 4 MiB are more than the one that is due"
    assert attached(postgres_database)[0] == "p20130901"


def test_what_another_policy_has_detached_counts_for_the_disk_that_both_are_on(
    postgres_database: Postgres, tmp_path: Path
) -> None:
    full(postgres_database, tmp_path)
    postgres_database.execute(
        "CREATE TABLE raw.other (LIKE raw.flights) PARTITION BY RANGE (time_hour); "
        "CREATE TABLE raw.other_old PARTITION OF raw.other FOR VALUES FROM ('2010-01-01Z') TO ('2013-08-01Z')"
    )
    limit = {"diskPressure": "100%", "diskSize": str(size_of(postgres_database) - _MIB)}
    for name, kept in ((TABLE, {"age": "5 months"}), ("raw.other", limit)):
        table = {"name": name, "partitionBy": {"column": "time_hour", "interval": "1 month"}}
        report = carried_out(postgres_database, spec(tmp_path, tables=[table], keep=kept))
        assert report.exit_code == 0, report.message
    assert retired(postgres_database) == [("raw.flights_p20130801",)]
