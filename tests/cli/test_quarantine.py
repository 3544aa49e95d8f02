"""`millstream quarantine`: look at rows that were set aside, load them after a fix, or give them up."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROWS: list[dict[str, Any]] = [{"id": n, "v": 50 + n, "mail": f"m{n}@b.c"} for n in range(4)] + [{"_raw": "broken"}]
MASKED = {"columns": [{"name": "mail", "mask": "hash"}]}
SMALL = MASKED | {"checks": [{"type": "range", "column": "v", "max": 50}, {"type": "range", "column": "id", "max": 2}]}
BIG = MASKED | {"checks": [{"type": "range", "column": "v", "max": 52}]}


@pytest.fixture
def duck(manifest: Callable, tmp_path: Path) -> Callable[..., Path]:
    """The same manifests into DuckDB."""

    def write(*words: Any, **spec: Any) -> Path:
        path: Path = manifest(*words, **spec)
        ours, theirs = (
            '"postgres", "config": {"embedded": true, "database": "cli"}',
            '"duckdb", "config": {"path": "w.db"}',
        )
        text = path.read_text(encoding="utf-8")
        assert ours in text
        path.write_text(text.replace(ours, theirs), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("place", ["manifest", "duck"])
def test_from_a_bad_row_to_a_loaded_one(place: str, millstream: Callable, request: pytest.FixtureRequest) -> None:
    write = request.getfixturevalue(place)
    path = write(ROWS, SMALL)
    ran = millstream("run", "-f", path)
    assert ran.code == 0, ran.out + ran.err
    assert "4 quarantined: `millstream quarantine list -f … --pipeline" in ran.out
    assert "`millstream quarantine replay -f … --pipeline" in ran.out
    shown = millstream("quarantine", "show", "-f", path, "--json").json()["rows"]
    assert [row["form"] for row in shown] == ["read", "read", "read", "raw"]
    assert {row["row"]["mail"] for row in shown if "mail" in row["row"]} == {"***"}
    replayed = millstream("quarantine", "replay", "-f", write(ROWS, BIG))
    assert replayed.code == 65
    assert "1 quarantined rows still fail: 1 by range(v)" in replayed.out
    assert "3 quarantined rows replayed, 2 loaded" in replayed.out
    assert "1 open rows were never parsed by the source" in replayed.out
    assert "m3@b.c" not in replayed.out + replayed.err
    last = millstream("quarantine", "show", "-f", path, "--status", "open", "--rule", "range(v)")
    assert "open, replayed 1 times" in last.out
    again = millstream("quarantine", "replay", "-f", write(ROWS, MASKED), "--rule", "range(v)", "--json")
    assert (again.code, again.json()["runs"][0]["report"]["totals"]["loaded"]) == (0, 1)
    nothing = millstream("quarantine", "replay", "-f", path)
    assert nothing.code == 0
    assert "nothing to replay; 1 open rows were never parsed" in nothing.out
    ledger = millstream("status", "-f", path, "--ledger", "--json").json()["pipelines"][0]
    assert ledger["closes"] is True
    assert [(row["origin"], row["read"], row["loaded"], row["quarantined"]) for row in ledger["runs"]] == [
        ("source", 5, 1, 4, ),
        ("quarantine", 3, 2, 1),
        ("quarantine", 1, 1, 0),
    ]  # fmt: skip
    given_up = millstream("quarantine", "discard", "-f", path, "--status", "open", "--reason", "a typing error")
    assert "1 rows discarded" in given_up.out, given_up.err
    [row] = millstream("quarantine", "show", "-f", path, "--status", "discarded", "--json").json()["rows"]
    assert (row["reason"], row["closed_by"].split("@")[0]) == ("a typing error", getpass.getuser())
    assert row["row"] == {"_raw": "broken"}
    assert "a typing error" in millstream("quarantine", "show", "-f", path, "--status", "discarded").out
    counted = millstream("quarantine", "list", "-f", path, "--json").json()["rows"]
    assert {row["status"]: row["rows"] for row in counted} == {"replayed": 3, "discarded": 1}


def test_to_discard_everything_needs_a_yes(millstream: Callable, manifest: Callable) -> None:
    path = manifest(ROWS, SMALL)
    millstream("run", "-f", path)
    refused = millstream("quarantine", "discard", "-f", path, "--reason", "no")
    assert refused.code == 78
    assert "narrow it with --stream, --rule, --run or --id, or say --yes" in refused.err
    assert millstream("quarantine", "discard", "-f", path).code == 64
    done = millstream("quarantine", "discard", "-f", path, "--reason", "no", "--yes", "--json")
    assert [item["rows"] for item in done.json()["discarded"]] == [4]


def test_filters_narrow_every_action(millstream: Callable, manifest: Callable) -> None:
    path = manifest(ROWS, SMALL)
    run = millstream("run", "-f", path, "--json").json()["runs"][0]["run"]
    rows = millstream("quarantine", "show", "-f", path, "--json").json()["rows"]
    numbers = sorted(row["id"] for row in rows)

    def seen(*words: object) -> list[int]:
        return sorted(
            row["id"] for row in millstream("quarantine", "show", "-f", path, "--json", *words).json()["rows"]
        )

    assert seen("--run", run) == seen("--status", "open") == seen("--stream", "rows") == numbers
    assert seen("--id", numbers[0], "--id", numbers[2]) == [numbers[0], numbers[2]]
    assert seen("--run", "other") == seen("--status", "refused") == []
    assert len(seen("--rule", "range(v)")) == 3
    unknown = millstream("quarantine", "list", "-f", path, "--stream", "rwos")
    assert (unknown.code, "did you mean 'rows'" in unknown.err) == (78, True)
    closed = millstream("quarantine", "replay", "-f", path, "--status", "refused")
    assert (closed.code, "only open rows can be replayed" in closed.err) == (78, True)
    one = millstream("quarantine", "replay", "-f", manifest(ROWS, MASKED), "--id", numbers[1], "--run", run, "--json")
    assert one.json()["runs"][0]["report"]["totals"]["loaded"] == 1


def test_values_that_are_masked_since_are_not_shown(millstream: Callable, manifest: Callable) -> None:
    path = manifest(ROWS, {"checks": SMALL["checks"]})
    millstream("run", "-f", path)
    assert "m3@b.c" in millstream("quarantine", "show", "-f", path).out
    masked = millstream("quarantine", "show", "-f", manifest(ROWS, SMALL))
    assert "m3@b.c" not in masked.out
    assert json.dumps("***") in masked.out


def test_rows_that_no_replay_can_load_are_told_so(millstream: Callable, manifest: Callable) -> None:
    rows = [{"id": 1, "items": [{"n": 1}]}, {"id": 2, "items": [{"n": "many"}]}, {"id": None, "items": []}]
    nested = {"primaryKey": ["id"], "nested": {"lists": "tables"}, "columns": [{"name": "id", "type": "bigint"}]}
    path = manifest(rows[:1], nested)
    assert millstream("run", "-f", path).code == 0
    ran = millstream("run", "-f", manifest(rows, nested))
    assert "those of rows cannot be replayed: repair the rows at the source" in ran.out
    assert "quarantine replay" not in ran.out
    listed = millstream("quarantine", "list", "-f", path, "--stream", "rows/items", "--json").json()["rows"]
    assert [(row["stream"], row["rule"]) for row in listed] == [("rows/items", "cast(n)")]
    refused = millstream("quarantine", "replay", "-f", path, "--stream", "rows/items")
    assert refused.code == 78
    assert "a child table of 'rows', whose rows come with their parents only" in refused.err
    given_up = millstream("quarantine", "discard", "-f", path, "--stream", "rows/items", "--reason", "a test")
    assert given_up.code == 0, given_up.err
