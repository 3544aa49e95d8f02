"""`millstream status`: the last run, rows and freshness of each pipeline, from its warehouse."""

from __future__ import annotations

import argparse
from typing import Any

from millstream_pipelines.cli.output import log, print_json, table
from millstream_pipelines.cli.places import metadata_of, reachable
from millstream_pipelines.manifests import Planned, plan_pipeline, read_catalog
from millstream_pipelines.metadata import Metadata

_HEADERS = ("pipeline", "last run", "outcome", "finished", "read", "loaded", "total rows", "quarantined", "newest row")


def command(arguments: argparse.Namespace) -> int:
    """Show every chosen Pipeline; a warehouse that no run has reached says so."""
    catalog = read_catalog(arguments.filename)
    planned = [plan_pipeline(catalog, item) for item in catalog.chosen("Pipeline", arguments.pipeline)]
    with reachable(planned) as ready:
        found = [_status(item) for item in ready]
    if arguments.json:
        print_json({"version": 1, "pipelines": found})
        return 0
    print(table(_HEADERS, [_row(item) for item in found]))
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
