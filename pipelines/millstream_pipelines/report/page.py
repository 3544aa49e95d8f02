"""Facts → one HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files

from millstream_pipelines.metadata import Row
from millstream_pipelines.report.charts import Bar, bars, columns
from millstream_pipelines.report.facts import Facts

_PARTS = ("loaded", "quarantined", "duplicate", "filtered")
_CELL = 400  # characters of one quarantined row that are shown


def page(facts: Sequence[Facts], now: datetime | None = None) -> str:
    """Return the page of some pipelines."""
    style = (files("millstream_pipelines.report") / "style.css").read_text(encoding="utf-8")
    made = f"{now or datetime.now(UTC):%Y-%m-%d %H:%M UTC}"
    names = ", ".join(item.pipeline for item in facts)
    body = "\n".join(_pipeline(item) for item in facts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Millstream: {escape(names)}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        f"<header><h1>Millstream</h1><p>Report of {made}</p></header>\n{body}\n</main></body></html>\n"
    )


def _pipeline(facts: Facts) -> str:
    parts = [f"<h2>{escape(facts.pipeline)}</h2>", f"<p>{escape(facts.source)} → {escape(facts.warehouse)}</p>"]
    if facts.last is None:
        return f"<section>{''.join(parts)}<p>No run has reached this warehouse yet.</p></section>"
    parts += [
        _tiles(facts, facts.last),
        _streams(facts, facts.last),
        _runs(facts.runs),
        _checks(facts),
        _quarantine(facts),
    ]
    return f"<section>{''.join(parts)}</section>"


def _tiles(facts: Facts, last: Row) -> str:
    report = last["report"]
    totals = report.get("totals") or {}
    run, passed = report.get("checksRun", 0), report.get("checksPassed", 0)
    tiles = (
        ("outcome", last["outcome"], "good" if last["exit_code"] == 0 else "bad"),
        ("rows read", f"{totals.get('read', 0):,}", ""),
        ("rows loaded", f"{totals.get('loaded', 0):,}", ""),
        ("set aside", f"{totals.get('quarantined', 0):,}", "bad" if totals.get("quarantined") else ""),
        ("checks passed", f"{passed} of {run}", "" if passed == run else "warn"),
        ("guarantee", report.get("guarantee") or "–", ""),
        ("seconds", f"{report.get('durationSeconds', 0):,.1f}", ""),
    )
    cells = "".join(
        f'<div class="tile {css}"><span>{escape(name)}</span><b>{escape(str(value))}</b></div>'
        for name, value, css in tiles
    )
    message = f'<p class="message">{escape(report.get("message", ""))}</p>' if last["exit_code"] else ""
    return f'<div class="tiles">{cells}</div>{message}'


def _streams(facts: Facts, last: Row) -> str:
    """Show where all rows went, and those of the last run, which may have been none."""
    drawn = [Bar(item["stream"], [(part, part, item[part]) for part in _PARTS]) for item in facts.streams]
    legend = "".join(f'<span class="{part}">{part}</span>' for part in _PARTS)
    keys = ("stream", "target", "runs", "chunks", "read", *_PARTS)
    sums = [[*(row[key] for key in keys), str(row["committed_at"])[:19]] for row in facts.streams]
    rows = [
        [item["name"], item.get("target", ""), *(item.get(key, 0) for key in ("read", *_PARTS)), item.get("guarantee")]
        for item in last["report"].get("streams", [])
    ]
    headers = ("stream", "target", "read", *_PARTS, "guarantee")
    chart = bars(drawn, "Where the rows went, over all runs (lengths by square root)")
    return (
        f'<h3>Rows in and out</h3>{chart}<p class="legend">{legend}</p>{_table((*keys, "last commit"), sums)}'
        f"<h4>Run {escape(last['run'])}</h4>{_table(headers, rows)}"
    )


def _runs(runs: Sequence[Row]) -> str:
    drawn = [
        ("loaded" if run["exit_code"] == 0 else "quarantined", str(run["finished_at"])[11:19], _seconds(run))
        for run in reversed(runs)
    ]
    rows = [
        [run["run"], run["attempt"], str(run["finished_at"])[:19], run["outcome"], _seconds(run), *_moved(run)]
        for run in runs
    ]
    headers = ("run", "attempt", "finished", "outcome", "seconds", "read", "loaded", "set aside")
    chart = columns(drawn, "Seconds per attempt, oldest first", "s")
    return f"<h3>Runs</h3>{chart}{_table(headers, rows)}"


def _seconds(run: Row) -> float:
    return round(float(run["report"].get("durationSeconds", 0)), 2)


def _moved(run: Row) -> list[int]:
    totals = run["report"].get("totals") or {}
    return [int(totals.get(key, 0)) for key in ("read", "loaded", "quarantined")]


def _checks(facts: Facts) -> str:
    parts = ["<h3>Checks</h3>"]
    for run, checks in facts.checks.items():
        drawn = [
            Bar(
                item["name"],
                [("quarantined" if item["severity"] == "error" else "warned", "rows", item["failed_rows"])],
            )
            for item in checks
            if item["failed_rows"]
        ]
        chart = bars(drawn, "Rows that do not satisfy a check (lengths by square root)") if drawn else ""
        keys = ("name", "target", "severity", "outcome", "failed_rows", "message")
        headers = ("check", "target", "severity", "outcome", "rows", "found")
        rows = [[item[key] for key in keys] for item in checks]
        parts.append(f"<h4>Run {escape(run)}</h4>{chart}{_table(headers, rows)}")
    return "".join(parts)


def _quarantine(facts: Facts) -> str:
    if not facts.quarantine:
        return "<h3>Quarantine</h3><p>No row was set aside.</p>"
    counts = [[row["stream"], row["rule"], row["status"], row["rows"]] for row in facts.quarantine]
    samples = [
        [row["id"], row["stream"], row["rule"], row["message"], _cut(json.dumps(row["row"], ensure_ascii=False))]
        for row in facts.samples
    ]
    return (
        f"<h3>Quarantine</h3>{_table(('stream', 'rule', 'status', 'rows'), counts)}"
        f"<h4>Samples</h4>{_table(('id', 'stream', 'rule', 'why', 'row'), samples)}"
    )


def _table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    rows = list(rows)
    marks = [' class="number"' if rows and isinstance(rows[0][n], int | float) else "" for n in range(len(headers))]
    head = "".join(f"<th{mark}>{escape(name)}</th>" for mark, name in zip(marks, headers, strict=True))
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="number">{value:,}</td>'
    text = "" if value is None else str(value)
    mark = f' class="{text}"' if text in ("passed", "failed", "errored", "Succeeded") else ""
    return f"<td{mark}>{escape(text)}</td>"


def _cut(text: str) -> str:
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"
