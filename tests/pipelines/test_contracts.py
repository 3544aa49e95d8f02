"""Schema contracts through whole runs: columns and tables come, go and are renamed; every row is accounted for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from contract_place import BASE, FIRST, MORE, SECOND, Place, counts, outcome, place, servers, shown
from millstream_api import Endpoint
from millstream_pipelines.explaining import differences
from millstream_pipelines.runner import RunRequest, execute
from servers.plugin import postgres_server

__all__ = ["place", "postgres_server", "servers"]


# columns contract → what becomes of rows 2 (a value in the new column) and 3 (NULL in it).
ADDED: dict[str, tuple[tuple[int, str], list[int], list[str], str]] = {
    "evolve": ((0, "Succeeded"), [1, 2, 3], [], "added"),
    "discard": ((0, "Succeeded"), [1, 2, 3], [], "left out"),
    "quarantine": ((0, "Succeeded"), [1, 3], ["unknown_column(w)"],
                   "not added: rows with a value in it are set aside"),
    "freeze": ((65, "SchemaDrift"), [1], [], "refused: the run fails"),
}  # fmt: skip


@pytest.mark.parametrize("contract", ADDED)
@pytest.mark.parametrize("key", [[], ["id"]], ids=["append", "merge"])
def test_a_column_is_added(place: Place, contract: str, key: list[str]) -> None:
    merge = {"primaryKey": key, "writeDisposition": "merge"} if key else {}
    place.run(BASE, FIRST, **merge)
    report = place.run(MORE, SECOND, contract={"columns": contract}, **merge)
    ends, ids, rules, action = ADDED[contract]
    assert outcome(report) == ends
    assert [row[0] for row in place.rows("id")] == ids
    assert place.rules() == rules
    assert ("w" in place.types()) == (contract == "evolve")
    assert shown(report) == [("w", "added", "", "integer", action)]
    if contract == "freeze":
        assert "new column 'w' (integer)" in report.message
    if contract == "evolve":
        assert place.rows("id, w") == [(1, None), (2, 5), (3, None)]
        assert shown(place.run(MORE, SECOND, **merge)) == [], "what was added differs no more"


def test_rows_set_aside_for_an_unknown_column_follow_the_rows_contract(place: Place) -> None:
    place.run(BASE, FIRST)
    report = place.run(MORE, SECOND, contract={"columns": "quarantine", "rows": "discard"})
    assert counts(report) == (2, 1, 0, 1)
    report = place.run(MORE, SECOND, contract={"columns": "quarantine", "rows": "freeze"})
    assert outcome(report) == (65, "ContractBroken")
    assert "unknown_column(w)" in report.message


def test_a_computed_column_may_be_the_unknown_one(place: Place) -> None:
    place.run(BASE, FIRST)
    report = place.run(
        BASE,
        [{"id": 2, "v": "b"}],
        contract={"columns": "quarantine"},
        columns=[{"name": "u", "expression": "upper(v)"}],
    )
    assert counts(report) == (1, 0, 1, 0)
    assert place.rules() == ["unknown_column(u)"]


def test_a_column_is_dropped(place: Place) -> None:
    place.run(MORE, [{"id": 1, "v": "a", "w": 7}])
    report = place.run(BASE, [{"id": 2, "v": "b"}], contract={"columns": "freeze", "types": "evolve"})
    assert place.rows("id, w") == [(1, 7), (2, None)]
    assert shown(report) == [("w", "dropped", "integer", "", "stays, NULL in new rows")]


def test_a_required_column_is_dropped(place: Place) -> None:
    place.ask(f"CREATE TABLE {place.target} (id bigint, v text, w integer NOT NULL, x integer NOT NULL DEFAULT 4)")
    report = place.run(BASE, FIRST)
    assert outcome(report) == (65, "SchemaDrift")
    assert "'w' is NOT NULL without a default" in report.message
    assert shown(report) == [
        ("w", "dropped", "integer", "", "refused: it is NOT NULL without a default, the run fails")
    ]
    place.ask(f"ALTER TABLE {place.target} ALTER COLUMN w SET DEFAULT 9")
    report = place.run(BASE, FIRST)
    assert (outcome(report), shown(report)) == ((0, "Succeeded"), [])
    assert place.rows("id, w, x") == [(1, 9, 4)]


def test_a_renamed_column_is_recognised(place: Place) -> None:
    place.run(BASE, FIRST)
    new = {"id": "bigint", "title": "text"}
    hint = "if 'v' was renamed: `columns: [{name: v, source: title}]`"
    report = place.run(new, [{"id": 2, "title": "b"}], contract={"columns": "freeze"})
    assert outcome(report) == (65, "SchemaDrift")
    assert hint in report.message
    assert [(column, change, hint in action) for column, change, *_, action in shown(report)] == [
        ("title", "added", True),
        ("v", "dropped", False),
    ]
    cured = place.run(new, [{"id": 2, "title": "b"}], columns=[{"name": "v", "source": "title"}])
    assert shown(cured) == []
    assert place.rows("id, v") == [(1, "a"), (2, "b")]
    other = place.run({"id": "bigint", "size": "integer"}, [{"id": 3, "size": 1}])
    assert "renamed" not in str(shown(other)), "another type is another column"


@pytest.mark.parametrize("tables", ["evolve", "freeze", "discard"])
def test_a_target_that_is_not_there(place: Place, tables: str) -> None:
    (foretold,) = differences(place.request(BASE, FIRST, contract={"tables": tables}))
    report = place.run(BASE, FIRST, contract={"tables": tables})
    assert shown(report) == []
    if tables == "evolve":
        assert (outcome(report), foretold.table) == ((0, "Succeeded"), "is made")
        assert [item.column for item in foretold.drift] == ["id", "v"]
    elif tables == "freeze":
        assert (outcome(report), foretold.table) == ((65, "SchemaDrift"), "refused: it is not there")
        assert "create it, correct `target`, or set 'evolve'" in report.message
    else:
        assert (outcome(report), foretold.table) == ((0, "Succeeded"), "left out: it is not there")
        assert counts(report) == (0, 0, 0, 0)
        assert report.streams[0].note.startswith("left out: target raw.")
        assert "left out" in report.message
    assert bool(place.types()) == (tables == "evolve")
    assert counts(place.run(BASE, FIRST)) == (1, 1, 0, 0), "and nothing is in the way of a later run"


def test_a_key_column_is_missing(place: Place) -> None:
    merge = {"primaryKey": ["id"], "writeDisposition": "merge"}
    place.run(BASE, FIRST, **merge)
    report = place.run({"v": "text"}, [{"v": "b"}], **merge)
    assert outcome(report) == (78, "InvalidConfiguration")
    assert "primaryKey names id" in report.message
    assert place.rows("id, v") == [(1, "a")]


def test_two_pipelines_evolve_one_table_at_once(servers: dict[str, Any]) -> None:
    place = Place(*servers["postgres"])
    place.run(BASE, FIRST)
    others = [Place(*servers["postgres"]) for _ in range(4)]
    barrier, reports = threading.Barrier(len(others)), []

    def go(number: int, other: Place) -> None:
        other.target = place.target
        columns = {**BASE, "w": "integer", f"only_{number}": "text"}
        given = [{"id": 10 + number, "v": "x", "w": number, f"only_{number}": "y"}]
        request = other.request(columns, given, contract={"types": "evolve"})
        barrier.wait()
        reports.append(execute(request))

    threads = [threading.Thread(target=go, args=pair) for pair in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome(report) for report in reports] == [(0, "Succeeded")] * 4, [item.message for item in reports]
    assert place.rows("id, w") == [(1, None), (10, 0), (11, 1), (12, 2), (13, 3)]
    assert set(place.types()) == {"id", "v", "w", "only_0", "only_1", "only_2", "only_3"}


@pytest.mark.parametrize("contract", ["evolve", "freeze", "quarantine", "discard"])
def test_a_column_that_comes_late(servers: dict[str, Any], contract: str, tmp_path: Path) -> None:
    place = Place(*servers["postgres"])
    early = b'{"id": 1, "v": "a"}\n' * 10_000
    (tmp_path / "a.ndjson").write_bytes(early + b'{"id": 2, "v": "b", "late": 1}\n{"id": 3, "v": "c"}\n')
    request = place.request({}, [], contract={"columns": contract, "rows": "quarantine"})
    plan = request.plan.model_copy(
        update={
            "source": Endpoint(
                name="f", type="files", config={"url": str(tmp_path), "streams": [{"name": "s", "glob": "*"}]}
            )
        }
    )
    place.ask(f"CREATE TABLE {place.target} (id bigint, v text)")
    report = execute(RunRequest(plan, {}, request.run, "test"))
    total = place.ask(f"SELECT count(*) FROM {place.target}")[0][0]
    assert (outcome(report), total) == {
        "evolve": ((0, "Succeeded"), 10_002),
        "discard": ((0, "Succeeded"), 10_002),
        "quarantine": ((0, "Succeeded"), 10_001),
        "freeze": ((65, "SchemaDrift"), 0),
    }[contract]
    assert [(item.column, item.change, item.after) for item in report.drift] == [("late", "added", "text")]
