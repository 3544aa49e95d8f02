"""Child tables that a policy cuts get their partitions on demand, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millstream_api import Endpoint
from millstream_api.retentionpolicy import PartitionBy
from millstream_pipelines.retention.ondemand import remember
from nested_orders import BOTH, MERGE, Orders, counts, order
from retained import patient
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]


@pytest.mark.parametrize("stream", [{"nested": BOTH}, MERGE], ids=["append", "merge"])
def test_children_by_their_parent(stream: dict[str, Any], postgres_database: Postgres, tmp_path: Path) -> None:
    orders = Orders(tmp_path, postgres_database)
    table = f"{orders.schema}.orders__items"
    with patient(postgres_database) as ddl:
        remember(ddl, table, PartitionBy(column="_parent_id", interval="100"), None)
        ddl.rows(
            "INSERT INTO _millstream.retired (policy, table_name, partition, oid, column_name, kind, low, high, "
            "time_zone, state) VALUES ('p', %s, 'x', 0, '_parent_id', 'integer', '900', '1000', 'Etc/UTC', 'dropped')",
            (table,),
        )
    orders.put(order(1, "a", "b"), order(150, "c"), order(950, "d"), order(1050, "e"))
    report = orders.run(**stream)
    assert report.exit_code == 0, report.message
    assert counts(report) == {"orders": (4, 4, 0, 0, 0), "orders/items": (5, 4, 1, 0, 0)}
    assert orders.items() == [(1, 0, "a"), (1, 1, "b"), (150, 0, "c"), (1050, 0, "e")]
    made = postgres_database.execute(
        f"SELECT count(*), count(DISTINCT tableoid) FROM {orders.schema}.orders__items WHERE sku <> ''"
    )
    assert made == [(4, 3)]
    ((name, rule, row),) = orders.quarantined()
    assert (name, rule, row["sku"]) == ("orders/items", "retired", "d")


def test_children_with_a_key_to_their_parents(postgres_database: Postgres, tmp_path: Path) -> None:
    """The load has written the parents: another session would wait for it to give a new partition the key."""
    orders = Orders(tmp_path, postgres_database)
    table = f"{orders.schema}.orders__items"
    with patient(postgres_database) as ddl:
        remember(ddl, table, PartitionBy(column="_parent_id", interval="100"), None)
    warehouse = Endpoint(name="w", type="postgres", config=postgres_database.config | {"lockTimeoutSeconds": 3})
    orders.put(order(1, "a", "b"))
    assert orders.run(warehouse).exit_code == 0
    postgres_database.execute(f"ALTER TABLE {orders.schema}.orders ADD UNIQUE (id)")
    postgres_database.execute(
        f"ALTER TABLE {table} ADD FOREIGN KEY (_parent_id) REFERENCES {orders.schema}.orders (id)"
    )
    orders.put(order(150, "c"))
    report = orders.run(warehouse)
    assert report.exit_code == 0, report.message
    assert orders.items() == [(1, 0, "a"), (1, 1, "b"), (150, 0, "c")]
