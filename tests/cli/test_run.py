"""`millstream run`: rows arrive once, exit codes say what to do, machines get one JSON document."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROWS = [{"id": n, "name": f"n{n}"} for n in range(10)]


def test_a_second_run_loads_nothing(millstream: Callable, manifest: Callable) -> None:
    path = manifest(ROWS)
    first, second = (millstream("run", "-f", path, "--json") for _ in range(2))
    assert (first.code, second.code) == (0, 0), first.err
    totals = [result.json()["runs"][0]["report"]["totals"] for result in (first, second)]
    assert [(item["read"], item["loaded"]) for item in totals] == [(10, 10), (0, 0)]


def test_json_is_alone_on_standard_output(millstream: Callable, manifest: Callable) -> None:
    result = millstream("run", "-f", manifest(ROWS), "--json")
    assert result.json()["runs"][0]["report"]["exitCode"] == 0
    assert "rows: load" in result.err


def test_summary_accounts_for_every_row(millstream: Callable, manifest: Callable) -> None:
    rows = [*ROWS, {"id": None, "name": "no key"}]
    result = millstream("run", "-f", manifest(rows, {"checks": [{"type": "not_null", "column": "id"}]}))
    assert result.code == 0, result.err
    line = next(line for line in result.out.splitlines() if line.strip().startswith("rows "))
    assert re.split(r"\s{2,}", line.strip())[2:7] == ["11", "10", "1", "0", "0"]


def test_failed_set_check_ends_with_65(millstream: Callable, manifest: Callable) -> None:
    path = manifest(ROWS, {"checks": [{"type": "row_count", "min": 100}]})
    result = millstream("run", "-f", path)
    assert result.code == 65, result.err
    assert "row_count" in result.out


def test_unreachable_warehouse_is_retried_then_75(millstream: Callable, manifest: Callable, tmp_path: Path) -> None:
    path = manifest(ROWS, retries={"limit": 2, "backoffSeconds": 1})
    text = path.read_text(encoding="utf-8").replace('"embedded": true', '"host": "127.0.0.1", "port": 1')
    path.write_text(text, encoding="utf-8")
    result = millstream("run", "-f", path)
    assert result.code == 75
    assert re.findall(r"trying again in (\d+) s", result.err) == ["1", "2"]


def test_wrong_configuration_is_78_and_not_retried(millstream: Callable, manifest: Callable) -> None:
    path = manifest(ROWS, {"name": "rwos"})
    result = millstream("run", "-f", path, "--json")
    assert result.code == 78
    report = result.json()["runs"][0]
    assert report["attempts"] == 1
    assert "did you mean 'rows'" in report["report"]["message"]


def test_wrong_usage_is_64(millstream: Callable) -> None:
    assert millstream("run").code == 64
    assert millstream("no-such-command").code == 64


def test_only_the_named_pipeline_runs(millstream: Callable, manifest: Callable) -> None:
    result = millstream("run", "-f", manifest(ROWS), "--pipeline", "othr")
    assert result.code == 78
    assert "no Pipeline 'othr'; found:" in result.err


def test_full_refresh_reads_everything_again(millstream: Callable, manifest: Callable) -> None:
    path = manifest(ROWS, {"writeDisposition": "merge", "primaryKey": ["id"]})
    millstream("run", "-f", path)
    totals = millstream("run", "-f", path, "--json", "--full-refresh").json()["runs"][0]["report"]["totals"]
    assert totals["read"] == 10


class _Outside(HTMLParser):
    """Collects whatever a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [str(value) for name, value in attrs if name in ("src", "href")]


def test_report_loads_nothing_and_shows_quarantined_rows(
    millstream: Callable, manifest: Callable, tmp_path: Path
) -> None:
    rows = [*ROWS, {"id": None, "name": "<script>alert(1)</script>"}]
    path = manifest(rows, {"checks": [{"type": "not_null", "column": "id"}]})
    assert millstream("run", "-f", path, "--report", "out/report.html").code == 0
    text = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    parser = _Outside()
    parser.feed(text)
    assert not parser.loaded
    assert {"svg", "table", "style"} <= parser.tags
    assert "script" not in parser.tags
    assert "&lt;script&gt;alert(1)" in text
    assert "url(" not in text


def test_status_and_quarantine_see_the_run(millstream: Callable, manifest: Callable) -> None:
    path = manifest([*ROWS, {"id": None, "name": "x"}], {"checks": [{"type": "not_null", "column": "id"}]})
    assert "never ran" in millstream("status", "-f", path).out
    millstream("run", "-f", path)
    status = millstream("status", "-f", path, "--json").json()["pipelines"][0]
    assert status["lastRun"]["outcome"] == "Succeeded"
    assert status["quarantinedOpen"] == 1
    counted = millstream("quarantine", "list", "-f", path, "--json").json()["rows"]
    assert [row["rows"] for row in counted] == [1]
    shown = millstream("quarantine", "show", "-f", path).out
    assert '"name": "x"' in shown
    assert counted[0]["rule"] in shown


def test_a_suspended_pipeline_does_not_run(millstream: Callable, manifest: Callable) -> None:
    result = millstream("run", "-f", manifest(ROWS, suspend=True), "--json")
    assert result.code == 0
    assert result.json()["runs"] == []
    assert "spec.suspend is true" in result.err


def test_a_terminated_run_takes_its_server_with_it(manifest: Callable, tmp_path: Path, server_folder: Path) -> None:
    path = manifest(ROWS, {"name": "slow"}, retries={"limit": 1, "backoffSeconds": 600})
    path.write_text(path.read_text(encoding="utf-8").replace('"memory"', '"rest"').replace(
        '{"streams": {"rows": {"rows": ' + json.dumps(ROWS) + "}}}",
        '{"baseUrl": "http://127.0.0.1:1", "retry": {"limit": 0}, "streams": [{"name": "slow", "path": "/"}]}',
    ), encoding="utf-8")  # fmt: skip
    environment = {**os.environ, "MILLSTREAM_HOME": str(server_folder)}
    line = [sys.executable, "-m", "millstream_pipelines.cli", "run", "-f", str(path)]
    with subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("trying again" in text for text in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert not (server_folder / "postgres/data/postmaster.pid").exists()


def test_a_terminal_sees_bars(manifest: Callable, home: Path, tmp_path: Path) -> None:
    path = manifest(ROWS)
    environment = {**os.environ, "MILLSTREAM_HOME": str(home), "TERM": "xterm-256color", "COLUMNS": "120"}
    environment.pop("CI", None)
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "millstream_pipelines.cli", "run", "-f", str(path)]
    with subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=theirs, stdout=subprocess.PIPE) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
        assert process.wait(60) == 0
    os.close(ours)
    text = seen.decode(errors="replace")
    assert "rows/s" in text
    assert "10 rows" in text


TIMED = [{"id": n, "at": f"2026-01-0{n + 1}T12:00:00Z", "rev": 1} for n in range(4)]
MERGED = {"mode": "incremental", "cursor": {"field": "at"}, "primaryKey": ["id"], "writeDisposition": "merge"}
WINDOW = ("--backfill", "2026-01-02..2026-01-04")


def timed(rows: list[dict[str, object]], manifest: Callable) -> Path:
    path: Path = manifest(rows, MERGED)
    text = path.read_text(encoding="utf-8").replace(
        '{"rows": {"rows":', '{"rows": {"columns": {"at": "timestamptz"}, "rows":'
    )
    path.write_text(text, encoding="utf-8")
    return path


def test_backfill_loads_a_window_again(millstream: Callable, manifest: Callable) -> None:
    assert millstream("run", "-f", timed(TIMED, manifest)).code == 0
    path = timed([{**row, "rev": 2} for row in TIMED], manifest)
    result = millstream("run", "-f", path, *WINDOW, "--interval", "12h", "--stream", "rows")
    assert result.code == 0, result.err
    assert "intervals: 4 of 4 done" in result.out
    assert "interval 2 of 4: 2026-01-02T12:00:00+00:00 .. 2026-01-03T00:00:00+00:00" in result.err
    run = re.findall(r"\(run ([\w-]+)\)", result.out)[0]
    report = millstream("run", "-f", path, *WINDOW, "--interval", "12h", "--resume", run, "--json").json()["runs"][0]
    assert (report["run"], report["report"]["totals"]["loaded"], report["report"]["intervalsDone"]) == (run, 2, 4)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--backfill", "2026-01-01"), 64, "write FROM..TO"),
        ((*WINDOW, "--full-refresh"), 78, "fullRefresh does not go with trigger 'backfill'"),
        ((*WINDOW, "--stream", "row"), 78, "did you mean 'rows'"),
    ],
    ids=["no-end", "full-refresh", "stream"],
)
def test_a_wrong_window_is_told(
    millstream: Callable, manifest: Callable, words: tuple[str, ...], code: int, said: str
) -> None:
    result = millstream("run", "-f", timed(TIMED, manifest), *words)
    assert result.code == code
    assert said in result.err + result.out
