"""`millstream explain`: what a run would do, stream by stream."""

from __future__ import annotations

import argparse
from dataclasses import asdict, is_dataclass
from typing import Any

from millstream_pipelines.cli.output import drift_lines, print_json, table
from millstream_pipelines.cli.places import reachable
from millstream_pipelines.manifests import plan_pipeline, read_catalog


def command(arguments: argparse.Namespace) -> int:
    """Show the plans of the chosen Pipelines, or with --diff what would change in their targets."""
    if arguments.diff:
        return _differences(arguments)
    from millstream_pipelines.explaining import explain
    from millstream_pipelines.runner import RunRequest

    catalog = read_catalog(arguments.filename)
    planned = [plan_pipeline(catalog, item) for item in catalog.chosen("Pipeline", arguments.pipeline)]
    with reachable(planned) as ready:
        found = [
            (
                item.plan.name,
                [_fields(stream) for stream in explain(RunRequest(item.plan, item.secrets, "explain", ""))],
            )
            for item in ready
        ]
    if arguments.json:
        print_json({"version": 1, "pipelines": [{"pipeline": name, "streams": streams} for name, streams in found]})
        return 0
    for name, streams in found:
        print(name)
        for stream in streams:
            print(_text(stream))
    return 0


def _differences(arguments: argparse.Namespace) -> int:
    from millstream_pipelines.explaining import differences
    from millstream_pipelines.runner import RunRequest

    catalog = read_catalog(arguments.filename)
    planned = [plan_pipeline(catalog, item) for item in catalog.chosen("Pipeline", arguments.pipeline)]
    with reachable(planned) as ready:
        found = [(item.plan.name, differences(RunRequest(item.plan, item.secrets, "explain", ""))) for item in ready]
    if arguments.json:
        pipelines = [
            {
                "pipeline": name,
                "streams": [
                    {
                        "name": item.name,
                        "target": item.target,
                        "table": item.table,
                        "drift": [drift.model_dump(mode="json", by_alias=True) for drift in item.drift],
                    }
                    for item in streams
                ],
            }
            for name, streams in found
        ]
        print_json({"version": 1, "pipelines": pipelines})
        return 0
    for name, streams in found:
        print(name)
        for item in streams:
            print(f"  {item.name} → {item.target}: table {item.table}{'' if item.drift else ', nothing differs'}")
            for line in drift_lines(item.drift):
                print(f"    {line}")
    return 0


def _fields(stream: Any) -> dict[str, Any]:
    return asdict(stream) if is_dataclass(stream) and not isinstance(stream, type) else dict(vars(stream))


def _text(stream: dict[str, Any]) -> str:
    lines = [
        f"  {stream['name']} → {stream['target']}",
        f"    path       {stream['path']}",
        f"    guarantee  {stream['guarantee']}: {stream['why']}",
        "    columns",
        table(("name", "type"), [_column(item) for item in stream["columns"]], indent="      "),
        "    sql",
    ]
    return "\n".join([*lines, *(f"      {line}" for sql in stream["sql"] for line in str(sql).splitlines())])


def _column(item: Any) -> tuple[str, str]:
    if isinstance(item, dict):
        return str(item["name"]), str(item["type"])
    name, kind = item if isinstance(item, list | tuple) else (str(item), "")
    return str(name), str(kind)
