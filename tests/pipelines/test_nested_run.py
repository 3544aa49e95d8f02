"""Nested columns through whole runs into PostgreSQL: children come, change and go with their parents, and count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream_api import Endpoint
from nested_orders import FULL, MERGE, Orders, counts, order
from servers.plugin import postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_server"]


@pytest.fixture(scope="module")
def database(postgres_server: Postgres) -> Iterator[Postgres]:
    with postgres_server.fresh_database() as fresh:
        yield fresh


@pytest.fixture
def orders(tmp_path: Path, database: Postgres) -> Orders:
    (tmp_path / "lake").mkdir()
    return Orders(tmp_path / "lake", database)


def test_objects_and_lists(orders: Orders) -> None:
    orders.put(
        '{"id": 1, "who": {"name": "Ann", "at": {"city": "Ghent"}}, "items": [{"sku": "a", "price": 1.10, "tags": '
        '["x", "y"]}, {"sku": "b", "price": 12345678901234567890.5}]}',
        '{"id": 2, "who": null, "items": []}',
    )
    report = orders.run()
    assert (report.exit_code, report.message) == (0, report.message)
    assert orders.rows('id, "who__name", "who__at__city"') == [(1, "Ann", "Ghent"), (2, None, None)]
    assert orders.items("_parent_id, _index, sku, price::text") == [
        (1, 0, "a", "1.10"),
        (1, 1, "b", "12345678901234567890.5"),
    ]
    assert orders.rows("_parent_id, _index_1, _index, value", "orders__items__tags") == [(1, 0, 0, "x"), (1, 0, 1, "y")]
    assert counts(report) == {
        "orders": (2, 2, 0, 0, 0),
        "orders/items": (2, 2, 0, 0, 0),
        "orders/items/tags": (2, 2, 0, 0, 0),
    }
    ledger = orders.database.execute(
        f"SELECT stream, seq, target FROM _millstream.ledger WHERE pipeline = 'test/{orders.schema}' ORDER BY 1"
    )
    assert ledger == [
        ("orders", 1, f"{orders.schema}.orders"),
        ("orders/items", 1, f"{orders.schema}.orders__items"),
        ("orders/items/tags", 1, f"{orders.schema}.orders__items__tags"),
    ]


def test_merge_replaces_the_children_of_a_key(orders: Orders) -> None:
    orders.put(order(1, "a", "b", "c"), order(2, "x"), order(3, "y"))
    orders.run(**MERGE)
    orders.put(order(1, "d"), order(2))
    report = orders.run(**MERGE)
    assert orders.items() == [(1, 0, "d"), (3, 0, "y")]
    assert counts(report) == {"orders": (2, 2, 0, 0, 0), "orders/items": (1, 1, 0, 0, 0)}
    orders.put({"id": 3})
    assert counts(orders.run(**MERGE)) == {"orders": (1, 1, 0, 0, 0)}
    assert orders.items() == [(1, 0, "d")], "a parent without the list has no children any more"


def test_of_several_versions_only_the_newest_keeps_its_children(orders: Orders) -> None:
    orders.put(order(1, "old", "old2", rev=2), order(1, "new", rev=3), order(1, "older", "older2", rev=1))
    report = orders.run(**MERGE, cursor={"field": "rev"})
    assert orders.rows("id, rev") == [(1, 3)]
    assert orders.items() == [(1, 0, "new")]
    assert counts(report) == {"orders": (3, 1, 0, 2, 0), "orders/items": (5, 1, 0, 4, 0)}


def test_append_and_replace(orders: Orders) -> None:
    orders.put(order(1, "a"), order(2, "b"))
    orders.run()
    orders.put(order(1, "c"))
    orders.run()
    assert orders.items() == [(1, 0, "a"), (1, 0, "c"), (2, 0, "b")]
    report = orders.run(**FULL)
    assert orders.items() == [(1, 0, "c"), (2, 0, "b")], "each key once, and its children"
    assert counts(report)["orders/items"] == (3, 2, 0, 1, 0)
    for path in orders.folder.iterdir():
        path.unlink()
    orders.put({"id": 9})
    assert counts(orders.run(**FULL)) == {"orders": (1, 1, 0, 0, 0)}
    assert orders.items() == []


@pytest.mark.parametrize("disposition", ["append", "merge"])
def test_a_parent_in_quarantine_keeps_its_children(orders: Orders, disposition: str) -> None:
    checks = [{"type": "range", "column": "amount", "min": 0}]
    orders.put(order(1, "a", amount=1), order("x", "b", amount=2), order(3, "c", amount=-5), order(4, "d", amount=1))
    report = orders.run(checks=checks, writeDisposition=disposition)
    assert counts(report) == {"orders": (4, 2, 2, 0, 0), "orders/items": (2, 2, 0, 0, 0)}
    assert orders.items() == [(1, 0, "a"), (4, 0, "d")]
    found = orders.quarantined()
    assert [(stream, rule) for stream, rule, _ in found] == [("orders", "cast(id)"), ("orders", "range(amount)")]
    assert [json.loads(row["items"])[0]["sku"] for *_, row in found] == ["b", "c"]


@pytest.mark.parametrize("stream", [MERGE, FULL], ids=["incremental", "full"])
def test_a_retry_tells_of_children_that_an_earlier_attempt_has_loaded(orders: Orders, stream: dict[str, Any]) -> None:
    orders.put(order(1, "a", "b"), order(2, "c"))
    first = counts(orders.run(**stream))
    assert first == {"orders": (2, 2, 0, 0, 0), "orders/items": (3, 3, 0, 0, 0)}
    assert counts(orders.run(again=True, **stream)) == first


def test_a_filtered_parent_takes_its_children_with_it(orders: Orders) -> None:
    orders.put(order(1, "a"), order(2, "b"))
    report = orders.run(filter="id > 1")
    assert counts(report) == {"orders": (2, 1, 0, 0, 1), "orders/items": (1, 1, 0, 0, 0)}
    assert orders.items() == [(2, 0, "b")]


def test_a_parent_that_only_the_server_refuses_takes_its_children_with_it(orders: Orders) -> None:
    orders.database.execute(f"CREATE SCHEMA {orders.schema}")
    orders.database.execute(f"CREATE TYPE {orders.schema}.mood AS ENUM ('ok')")
    mood = {"columns": [{"name": "id", "type": "bigint"}, {"name": "mood", "type": f"{orders.schema}.mood"}]}
    orders.put(order(1, "a", mood="ok"), order(2, "b", "c", mood="sad"))
    report = orders.run(**MERGE, **mood)
    assert counts(report) == {"orders": (2, 1, 1, 0, 0), "orders/items": (3, 1, 2, 0, 0)}
    assert [(stream, rule) for stream, rule, _ in orders.quarantined()] == [
        ("orders", "cast(mood)"),
        ("orders/items", "parent"),
        ("orders/items", "parent"),
    ]
    assert orders.items() == [(1, 0, "a")]


def test_an_element_that_does_not_fit_is_set_aside_by_itself(orders: Orders) -> None:
    orders.put({"id": 1, "items": [{"sku": "a", "qty": 1}]})
    orders.run(**MERGE)
    orders.put({"id": 2, "items": [{"sku": "b", "qty": 2}, {"sku": "c", "qty": "many"}]})
    report = orders.run(**MERGE)
    assert counts(report) == {"orders": (1, 1, 0, 0, 0), "orders/items": (2, 1, 1, 0, 0)}
    ((stream, rule, row),) = orders.quarantined()
    assert (stream, rule, row["_parent_id"], row["_index"], row["qty"]) == ("orders/items", "cast(qty)", 2, 1, "many")
    assert orders.items("_parent_id, _index, sku, qty") == [(1, 0, "a", 1), (2, 0, "b", 2)]


@pytest.mark.parametrize(
    ("contract", "ends", "items"),
    [
        ({}, 0, [(1, 0, "a"), (2, 0, "b")]),
        ({"columns": "discard"}, 0, [(1, 0, "a"), (2, 0, "b")]),
        ({"columns": "quarantine"}, 0, [(1, 0, "a")]),
        ({"columns": "freeze"}, 65, [(1, 0, "a")]),
    ],
)
def test_the_contract_holds_for_children_too(
    orders: Orders, contract: dict[str, str], ends: int, items: list[tuple[Any, ...]]
) -> None:
    orders.put(order(1, "a"))
    orders.run(**MERGE)
    orders.put({"id": 2, "items": [{"sku": "b", "price": 1, "colour": "red"}]})
    report = orders.run(**MERGE, contract=contract)
    assert report.exit_code == ends, report.message
    assert orders.items() == items
    if ends == 0:
        assert [(item.stream, item.column, item.change) for item in report.drift] == [
            ("orders/items", "colour", "added")
        ]


def test_children_and_columns_that_come_late(orders: Orders) -> None:
    early = [{"id": number, "a": {"x": 1}} for number in range(120_000)]
    orders.put(*early, {"id": 200_000, "a": {"x": 2, "y": "z"}, "items": 5}, {"id": 200_001, "a": "plain"})
    report = orders.run(**MERGE, contract={"columns": "evolve"})
    assert report.exit_code == 0, report.message
    late = f"SELECT id, a__x, a__y, a FROM {orders.schema}.orders WHERE id >= 200000 ORDER BY id"
    assert orders.database.execute(late) == [(200_000, 2, "z", {"x": 2, "y": "z"}), (200_001, None, None, "plain")]


def test_a_masked_part_is_not_shown_as_a_whole(orders: Orders) -> None:
    columns = [
        {"name": "id", "type": "bigint"},
        {"name": "email", "source": "who__email", "mask": "hash"},
    ]
    orders.put({"id": 1, "who": {"email": "a@x"}}, {"id": "x", "who": {"email": "b@x"}})
    orders.run(columns=columns)
    ((_, _, row),) = orders.quarantined()
    assert row == {"id": "x", "who": "***"}
    ((hashed,),) = orders.rows("email")
    assert len(hashed) == 64


def test_a_column_that_is_named_stays_whole(orders: Orders) -> None:
    orders.put(order(1, "a", who={"name": "Ann"}))
    orders.run(columns=[{"name": "id", "type": "bigint"}, {"name": "items"}, {"name": "who", "drop": True}])
    assert orders.rows("id, items->0->>'sku'") == [(1, "a")]
    assert orders.database.execute(
        f"SELECT count(*) FROM information_schema.tables WHERE table_schema = '{orders.schema}'"
    ) == [(1,)]


@pytest.mark.parametrize(
    ("records", "stream", "part"),
    [
        ([{"id": 1, "a": {"b__c": 1, "b": {"c": 2}}}], {}, "'a.b.c' and 'a.b__c' would both be column 'a__b__c'"),
        ([{"id": 1, "l": [{"_index": 1}]}], {}, "the list 'l' has a field '_index'"),
        ([{"id": 1, "a b": [1], "a_b": [1]}], {}, "would share the table"),
        ([{"id": 1, "l": [1]}], {"writeDisposition": "scd2"}, "not built for `deletes` and writeDisposition 'scd2'"),
    ],
)
def test_what_cannot_be_is_refused(
    orders: Orders, records: list[dict[str, Any]], stream: dict[str, Any], part: str
) -> None:
    orders.put(*records)
    report = orders.run(**stream)
    assert report.exit_code == 78
    assert part in report.message


def test_child_tables_need_a_warehouse_that_has_them(orders: Orders, tmp_path: Path) -> None:
    orders.put(order(1, "a", who={"name": "Ann"}))
    duckdb = Endpoint(name="w", type="duckdb", config={"path": str(tmp_path / "dw.duckdb")})
    report = orders.run(duckdb)
    assert report.exit_code == 78
    assert "nested.lists 'tables' is not built for a warehouse of type 'duckdb'" in report.message
    assert counts(orders.run(duckdb, nested={"objects": "columns"})) == {"orders": (1, 1, 0, 0, 0)}
