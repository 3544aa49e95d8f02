"""`millstream status`: the last run, guarantee, rows and freshness of each pipeline, from its warehouse; its ledger."""

from __future__ import annotations

import argparse
import json
from typing import Any

from millstream_api import ExitCode
from millstream_pipelines.cli.output import log, number, print_json, size, table
from millstream_pipelines.cli.places import metadata_of, reachable
from millstream_pipelines.manifests import Planned, plan_pipeline, read_catalog
from millstream_pipelines.metadata import Metadata

_COUNTS = ("read", "loaded", "quarantined", "duplicate", "filtered")
_HEADERS = ("pipeline", "last run", "outcome", "finished", "read", "loaded", "total rows", "quarantined", "newest row")


def command(arguments: argparse.Namespace) -> int:
    """Show every chosen Pipeline; a warehouse that no run has reached says so."""
    catalog = read_catalog(arguments.filename)
    planned = [plan_pipeline(catalog, item) for item in catalog.chosen("Pipeline", arguments.pipeline)]
    with reachable(planned) as ready:
        if arguments.ledger:
            return _show_ledgers([_ledger(item, arguments) for item in ready], as_json=arguments.json)
        found = [_status(item) for item in ready]
    if arguments.json:
        print_json({"version": 1, "pipelines": found})
        return 0
    print(table(_HEADERS, [_row(item) for item in found]))
    said = [(item["pipeline"], stream) for item in found for stream in (item["lastRun"] or {}).get("streams", [])]
    if said:
        rows = [(name, stream["name"], stream["guarantee"], stream["why"]) for name, stream in said]
        print("\n" + table(("pipeline", "stream", "guarantee", "why"), rows, widest=200))
    for item in found:
        if item["lastRun"] and item["lastRun"]["exitCode"]:
            log(f"{item['pipeline']}: {item['lastRun']['message']}")
    return 0


def _status(planned: Planned) -> dict[str, Any]:
    with metadata_of(planned) as metadata:
        if not metadata.exists():
            return {"pipeline": metadata.pipeline, "lastRun": None, "streams": [], "quarantinedOpen": 0}
        return {
            "pipeline": metadata.pipeline,
            "lastRun": _last_run(metadata),
            "streams": metadata.streams(),
            "quarantinedOpen": sum(row["rows"] for row in metadata.quarantine_counts() if row["status"] == "open"),
        }


def _last_run(metadata: Metadata) -> dict[str, Any] | None:
    runs = metadata.runs(1)
    if not runs:
        return None
    report = runs[0]["report"]
    totals = report.get("totals") or {}
    return {
        "run": runs[0]["run"],
        "outcome": runs[0]["outcome"],
        "exitCode": runs[0]["exit_code"],
        "finishedAt": runs[0]["finished_at"],
        "message": report.get("message", ""),
        "read": totals.get("read", 0),
        "loaded": totals.get("loaded", 0),
        "freshness": report.get("freshness"),
        "streams": [
            {"name": item["name"], "guarantee": item["guarantee"], "why": item.get("guaranteeReason", "")}
            for item in report.get("streams") or []
            if item.get("guarantee")
        ],
    }


def _row(item: dict[str, Any]) -> tuple[Any, ...]:
    last = item["lastRun"]
    total = sum(int(stream["loaded"]) for stream in item["streams"])
    if last is None:
        return (item["pipeline"], "", "never ran", "", 0, 0, total, 0, "")
    return (
        item["pipeline"],
        last["run"],
        last["outcome"],
        str(last["finishedAt"])[:19],
        last["read"],
        last["loaded"],
        total,
        item["quarantinedOpen"],
        last["freshness"] or "",
    )


def _ledger(planned: Planned, arguments: argparse.Namespace) -> dict[str, Any]:
    with metadata_of(planned) as metadata:
        if not metadata.exists():
            return {"pipeline": metadata.pipeline, "chunks": [], "runs": [], "streams": []}
        return {
            "pipeline": metadata.pipeline,
            "chunks": metadata.ledger(arguments.limit, arguments.stream, arguments.run),
            "runs": metadata.accounting(arguments.stream, arguments.run),
            "streams": metadata.sequences(arguments.stream),
        }


def _show_ledgers(ledgers: list[dict[str, Any]], *, as_json: bool) -> int:
    """Print chunks, sums per run and the verdict; 65 when a sum does not close or a chunk is missing."""
    verdicts = [_verdict(item) for item in ledgers]
    for item, (closes, _) in zip(ledgers, verdicts, strict=True):
        item["closes"] = closes
    if as_json:
        print_json({"version": 1, "pipelines": ledgers})
    for item, (_, lines) in zip(ledgers, verdicts, strict=True):
        if not as_json:
            print("\n\n".join([item["pipeline"], *_tables(item), "\n".join(lines)]))
    return int(ExitCode.DONE if all(closes for closes, _ in verdicts) else ExitCode.CHECKS_FAILED)


def _tables(ledger: dict[str, Any]) -> list[str]:
    if not ledger["chunks"]:
        return []
    chunks = [
        (
            *(row["stream"], row["seq"], row["run"], str(row["committed_at"])[:19]),
            *(row[name] for name in _COUNTS),
            *(size(row["bytes"]), row["content_hash"][:12]),
            json.dumps(row["position"], ensure_ascii=False) if row["position"] is not None else "",
        )
        for row in reversed(ledger["chunks"])
    ]
    runs = [
        (row["stream"], row["run"], row["chunks"], *(row[name] for name in _COUNTS), size(row["bytes"]), row["gap"])
        for row in ledger["runs"]
    ]
    return [
        table(("stream", "seq", "run", "committed", *_COUNTS, "bytes", "hash", "position"), chunks),
        table(("stream", "run", "chunks", *_COUNTS, "bytes", "gap"), runs),
    ]


def _verdict(ledger: dict[str, Any]) -> tuple[bool, list[str]]:
    """Return whether everything closes, and what to say."""
    wrong = [
        f"{row['stream']}, run {row['run']}: {number(row['read'])} rows read, {row['gap']} of them not accounted for"
        for row in ledger["runs"]
        if row["gap"]
    ] + [
        f"{row['stream']}: {number(row['committed'])} chunks were committed, {number(row['missing'])} of them are not "
        "in the ledger"
        for row in ledger["streams"]
        if row["missing"]
    ]
    if wrong:
        return False, [f"DOES NOT CLOSE: {line}" for line in wrong]
    if not ledger["runs"]:
        return True, ["no chunk was committed"]
    return True, ["closes: read = loaded + quarantined + duplicate + filtered in every run, and no chunk is missing"]
