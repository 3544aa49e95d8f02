"""`millstream quarantine list|show`: rows that were set aside, and why."""

from __future__ import annotations

import argparse
import json
from typing import Any

from millstream_pipelines.cli.output import print_json, table
from millstream_pipelines.cli.places import metadata_of, reachable
from millstream_pipelines.manifests import plan_pipeline, read_catalog

_HEADERS = ("pipeline", "stream", "rule", "status", "rows", "first", "last")


def command(arguments: argparse.Namespace) -> int:
    """Count the rows (list) or show them (show)."""
    catalog = read_catalog(arguments.filename)
    planned = [plan_pipeline(catalog, item) for item in catalog.chosen("Pipeline", arguments.pipeline)]
    found: list[dict[str, Any]] = []
    with reachable(planned) as ready:
        for item in ready:
            with metadata_of(item) as metadata:
                if not metadata.exists():
                    continue
                rows = (
                    metadata.quarantine_counts(arguments.stream, arguments.rule)
                    if arguments.action == "list"
                    else metadata.quarantined(arguments.rows, arguments.stream, arguments.rule)
                )
                found += [{"pipeline": metadata.pipeline, **row} for row in rows]
    if arguments.json:
        print_json({"version": 1, "rows": found})
    elif not found:
        print("no rows are in quarantine")
    elif arguments.action == "list":
        print(table(_HEADERS, [[_short(row, header) for header in _HEADERS] for row in found]))
    else:
        for row in found:
            print(
                f"#{row['id']} {row['pipeline']} {row['stream']} → {row['target']}, run {row['run']}, {row['status']}"
            )
            print(f"  {row['rule']}: {row['message']}")
            print(f"  {json.dumps(row['row'], ensure_ascii=False)}")
    return 0


def _short(row: dict[str, Any], header: str) -> object:
    return str(row[header])[:19] if header in ("first", "last") else row[header]
