"""`millstream quarantine list|show|replay|discard`: rows that were set aside, why, and their way back."""

from __future__ import annotations

import argparse
import getpass
import json
import socket
from typing import Any

from millstream_api import ExitCode, RunOptions
from millstream_api.run_options import Replay
from millstream_pipelines.cli.output import number, print_json, table
from millstream_pipelines.cli.places import metadata_of, reachable, warehouse_of
from millstream_pipelines.cli.run import document, run_pipeline, summary, worst
from millstream_pipelines.errors import ConfigurationError, unknown_value
from millstream_pipelines.manifests import Planned, plan_pipeline, read_catalog
from millstream_pipelines.masking import REDACTED
from millstream_pipelines.replayable import CURE
from millstream_pipelines.selection import Selection

_HEADERS = ("pipeline", "stream", "rule", "status", "rows", "first", "last")


def command(arguments: argparse.Namespace) -> int:
    """Do one action on the chosen rows of the chosen Pipelines."""
    catalog = read_catalog(arguments.filename)
    planned = [plan_pipeline(catalog, item) for item in catalog.chosen("Pipeline", arguments.pipeline)]
    _known_stream(planned, arguments.stream)
    with reachable(planned) as ready:
        return {"list": _look, "show": _look, "replay": _replay, "discard": _discard}[arguments.action](
            ready, arguments
        )


def _known_stream(planned: list[Planned], stream: str | None) -> None:
    known = {item.name for one in planned if one.plan.pipeline is not None for item in one.plan.pipeline.streams}
    if stream is not None and stream not in known and _parent_of(planned, stream) is None:
        raise unknown_value("--stream", "stream", stream, known)


def _parent_of(planned: list[Planned], stream: str) -> str | None:
    """Return the stream whose child table is named, None for what is none."""
    for one in planned:
        for item in one.plan.pipeline.streams if one.plan.pipeline is not None else []:
            if stream.startswith(f"{item.name}/") and item.nested.lists == "tables":
                return item.name
    return None


def _chosen(planned: Planned, arguments: argparse.Namespace) -> Selection:
    return Selection(
        f"{planned.plan.namespace}/{planned.plan.name}",
        (arguments.stream,) if arguments.stream else (),
        arguments.rule,
        arguments.run,
        arguments.status,
        tuple(arguments.id),
    )


def _look(ready: list[Planned], arguments: argparse.Namespace) -> int:
    """Count rows (list) or show them (show)."""
    found: list[dict[str, Any]] = []
    for item in ready:
        chosen = _chosen(item, arguments)
        with metadata_of(item) as metadata:
            if not metadata.exists():
                continue
            if arguments.action == "list":
                rows = metadata.quarantine_counts(chosen)
            else:
                rows = [_hidden(row, item) for row in metadata.quarantined(arguments.rows, chosen)]
            found += [{"pipeline": metadata.pipeline, **row} for row in rows]
    if arguments.json:
        print_json({"version": 1, "rows": found})
    elif not found:
        print("no such rows are in quarantine" if _narrow(arguments) else "no rows are in quarantine")
    elif arguments.action == "list":
        print(table(_HEADERS, [[_short(row, header) for header in _HEADERS] for row in found]))
    else:
        for row in found:
            print(_text(row))
    return 0


def _hidden(row: dict[str, Any], planned: Planned) -> dict[str, Any]:
    """Return a row without the values that the manifest masks or leaves out, whenever it was stored."""
    streams = planned.plan.pipeline.streams if planned.plan.pipeline is not None else []
    specs = [column for stream in streams if stream.name == row["stream"] for column in stream.columns]
    names = {name for item in specs if item.mask or item.drop for name in (item.source or item.name, item.name)}
    shown = {name: REDACTED if name in names and value is not None else value for name, value in row["row"].items()}
    return {**row, "row": shown}


def _text(row: dict[str, Any]) -> str:
    head = f"#{row['id']} {row['pipeline']} {row['stream']} → {row['target']}, run {row['run']}, {row['status']}"
    tried = f", replayed {row['attempts']} times" if row["attempts"] and row["status"] == "open" else ""
    closed = f" by {row['closed_by']} at {str(row['closed_at'])[:19]}" if row["closed_by"] else ""
    why = f": {row['reason']}" if row["reason"] else ""
    return "\n".join(
        (
            f"{head}{tried}{closed}{why}",
            f"  {row['rule']}: {row['message']}",
            f"  {json.dumps(row['row'], ensure_ascii=False)}",
        )
    )


def _replay(ready: list[Planned], arguments: argparse.Namespace) -> int:
    """Replay the chosen rows, each Pipeline as a run of its own; the exit code is that of the worst."""
    if arguments.status not in (None, "open"):
        raise ConfigurationError(
            f"--status {arguments.status}: only open rows can be replayed; rows that are `refused` are still at the "
            "source, and the next run reads them again"
        )
    if arguments.stream and (parent := _parent_of(ready, arguments.stream)) is not None:
        raise ConfigurationError(
            f"--stream {arguments.stream}: a child table of '{parent}', whose rows come with their parents only; {CURE}"
        )
    options = RunOptions(
        trigger="replay",
        streams=[arguments.stream] if arguments.stream else [],
        replay=Replay(rule=arguments.rule, run=arguments.run, ids=arguments.id),
    )
    chosen = [item for item in ready if arguments.stream is None or _has(item, arguments.stream)]
    ended = [run_pipeline(item, options) for item in chosen]
    if arguments.json:
        print_json(document(ended))
    else:
        print("\n\n".join(summary(item) for item in ended))
    return worst(ended)


def _has(planned: Planned, stream: str) -> bool:
    return planned.plan.pipeline is not None and any(item.name == stream for item in planned.plan.pipeline.streams)


def _discard(ready: list[Planned], arguments: argparse.Namespace) -> int:
    """Give up the chosen open and refused rows; they stay in the table with reason, person and time."""
    if not _narrow(arguments) and not arguments.yes:
        raise ConfigurationError(
            "this would discard every open row; narrow it with --stream, --rule, --run or --id, or say --yes"
        )
    if arguments.status not in (None, "open", "refused"):
        raise ConfigurationError(f"--status {arguments.status}: only open and refused rows can be discarded")
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    counts = []
    for item in ready:
        with metadata_of(item) as metadata:
            if not metadata.exists():
                counts.append((metadata.pipeline, 0))
                continue
        with warehouse_of(item) as warehouse:
            counts.append((metadata.pipeline, warehouse.discard(_chosen(item, arguments), arguments.reason, who)))
    if arguments.json:
        print_json({"version": 1, "discarded": [{"pipeline": name, "rows": count} for name, count in counts]})
    else:
        for name, count in counts:
            print(f"{name}: {number(count)} rows discarded")
    return int(ExitCode.DONE)


def _narrow(arguments: argparse.Namespace) -> bool:
    return any((arguments.stream, arguments.rule, arguments.run, arguments.status, arguments.id))


def _short(row: dict[str, Any], header: str) -> object:
    return str(row[header])[:19] if header in ("first", "last") else row[header]
