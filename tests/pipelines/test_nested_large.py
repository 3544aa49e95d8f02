"""Large files are taken apart by the types of earlier rows, small ones line by line: nobody can tell by the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nested_orders import Orders, counts, order
from servers.plugin import postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_database", "postgres_server"]

STREAM: dict[str, Any] = {
    "checks": [{"type": "range", "column": "amount", "min": 0}],
    "columns": [
        {"name": "id", "type": "bigint"},
        {"name": "quantity", "type": "smallint"},
        {"name": "letters", "expression": "length(who)"},
    ],
    "filter": "who NOT LIKE '%n3999%'",
}


def written() -> list[str]:
    lines = [
        json.dumps(
            order(
                n,
                *(["a", 'é\\"}'] if n % 3 else []),
                amount=n % 50 / 4,
                quantity=n,
                who={"name": f"n{n}", "note": "x" * 60},
            )
        )
        for n in range(4000)
    ]
    lines[1] = lines[1].replace("1.5", "1.50")
    lines[2000] = json.dumps(order(2000, "b", amount=2, quantity=70_000, who={"name": "bad", "note": None}))
    lines[2001] = json.dumps(order(2001, "c", amount=-2.5, quantity=1, who={"name": "refused", "note": "é"}))
    return lines


def loaded(folder: Path, database: Postgres, lines: list[str], size: int) -> tuple[Any, ...]:
    """Load lines in files of `size` lines; return what became of them."""
    folder.mkdir()
    orders = Orders(folder, database)
    for start in range(0, len(lines), size):
        orders.put(*lines[start : start + size])
    report = orders.run(**STREAM)
    assert report.exit_code == 0, report.message
    rows = orders.rows("id, quantity, amount::text, letters, who__name, who__note")
    return counts(report), rows, orders.items("_parent_id, _index, sku, price::text"), orders.quarantined()


def test_a_large_file_loads_as_small_ones_do(tmp_path: Path, postgres_database: Postgres) -> None:
    lines = written()
    large, small = (loaded(tmp_path / str(size), postgres_database, lines, size) for size in (4000, 500))
    assert large == small
    totals, _, items, quarantined = large
    assert totals["orders"] == (4000, 3997, 2, 0, 1)
    assert items[0] == (1, 0, "a", "1.50")
    rows = {rule: row for _, rule, row in quarantined}
    assert rows["cast(quantity)"]["items"] == '[{"sku":"b","price":1.5}]'
    assert (rows["range(amount)"]["amount"], rows["range(amount)"]["who"]) == ("-2.5", '{"name":"refused","note":"é"}')
