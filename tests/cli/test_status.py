"""`millstream status`: the guarantee that a stream really has, and a ledger that people can read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg2

from millstream_pipelines import embedded
from scripted_api import serving

ROWS = [{"id": n if n else None} for n in range(10)]
CHECKED = {"checks": [{"type": "not_null", "column": "id"}]}


def test_the_ledger_chunk_by_chunk_and_per_run(millstream: Callable, manifest: Callable) -> None:
    assert "no chunk was committed" in millstream("status", "-f", manifest(ROWS, CHECKED), "--ledger").out
    runs = []
    for rows in (ROWS, [*ROWS, {"id": 11}]):
        result = millstream("run", "-f", manifest(rows, CHECKED), "--json")
        runs.append(result.json()["runs"][0]["run"])
    shown = millstream("status", "-f", manifest(ROWS, CHECKED), "--ledger")
    assert (shown.code, shown.err) == (0, "")
    assert "closes: read = loaded + quarantined + duplicate + filtered" in shown.out
    assert '{"rows": 11}' in shown.out
    [ledger] = millstream("status", "-f", manifest(ROWS), "--ledger", "--json").json()["pipelines"]
    assert [(row["seq"], row["run"], row["read"], row["loaded"], row["quarantined"]) for row in ledger["chunks"]] == [
        (2, runs[1], 1, 1, 0),
        (1, runs[0], 10, 9, 1),
    ]
    assert [(row["run"], row["read"], row["gap"]) for row in ledger["runs"]] == [(runs[0], 10, 0), (runs[1], 1, 0)]
    assert (ledger["closes"], ledger["streams"][0]["missing"]) == (True, 0)
    path = manifest(ROWS)
    for words, seqs in ((("--run", runs[0]), [1]), (("--limit", 1), [2]), (("--stream", "other"), [])):
        [part] = millstream("status", "-f", path, "--ledger", "--json", *words).json()["pipelines"]
        assert [row["seq"] for row in part["chunks"]] == seqs


def test_a_ledger_with_a_hole_is_told_and_ends_with_65(millstream: Callable, manifest: Callable, home: Path) -> None:
    path = manifest(ROWS)
    millstream("run", "-f", path)
    with embedded.serving(home / "postgres") as server:
        connection = psycopg2.connect(host=server.host, user=server.user, dbname="cli")
        with connection, connection.cursor() as cursor:
            name = json.loads(path.read_text(encoding="utf-8").split("---")[2])["metadata"]["name"]
            cursor.execute("DELETE FROM _millstream.ledger WHERE pipeline = %s", (f"default/{name}",))
            assert cursor.rowcount == 1
        connection.close()
    shown = millstream("status", "-f", path, "--ledger")
    assert shown.code == 65
    assert "DOES NOT CLOSE: rows: 1 chunks were committed, 1 of them are not in the ledger" in shown.out


def test_an_api_without_keys_is_at_least_once_and_says_why(
    millstream: Callable, manifest: Callable, tmp_path: Path
) -> None:
    with serving() as api:
        api.routes["/things"] = lambda _: [{"id": 1, "at": "2026-01-01T00:00:00Z"}]
        path = manifest([], {"name": "things"})
        source = {
            "baseUrl": api.url,
            "streams": [{"name": "things", "path": "/things", "incremental": {"param": "since", "field": "at"}}],
        }
        text = path.read_text(encoding="utf-8").replace('"memory"', '"rest"')
        text = text.replace('{"streams": {"rows": {"rows": []}}}', json.dumps(source))
        path.write_text(text, encoding="utf-8")
        explained = millstream("explain", "-f", path)
        assert "guarantee  at-least-once: an API answers `since` with the last value again" in explained.out
        ran = millstream("run", "-f", path)
        assert ran.code == 0, ran.out + ran.err
    shown = millstream("status", "-f", path).out
    [line] = [line for line in shown.splitlines() if " things " in line]
    assert "at-least-once  an API answers `since` with the last value again" in line
    assert line.endswith("writeDisposition 'merge' with a primaryKey would keep rows single")


def test_a_check_shows_what_fails(millstream: Callable, manifest: Callable) -> None:
    check = {"type": "range", "column": "id", "max": 5, "severity": "warn"}
    result = millstream("run", "-f", manifest([{"id": n} for n in (1, 77, 88, 77)], {"checks": [check]}))
    assert "3 of 4 rows fail: id must be at most 5; for example 77, 88" in result.out
