"""`millstream new`: looks at a URL, path or DSN and writes the manifests that would load it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from millstream_api import API_VERSION, Endpoint
from millstream_pipelines.cli.output import log
from millstream_pipelines.cli.recognition import Recognized, recognize
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.manifests.findings import near
from millstream_pipelines.manifests.plans import environment_prefix
from millstream_pipelines.schema import Schema
from millstream_pipelines.sources.base import StreamInfo

# Columns that tell when a row was last changed, in the order of preference.
_CURSORS = ("updated_at", "modified_at", "last_modified", "changed_at", "update_time", "last_update", "updated")
_TIMES = ("timestamptz", "timestamp")
_LAG = "10m"  # rows become visible out of order; the key keeps rows that are read twice single


@dataclass(frozen=True)
class Written:
    """A file to write: what it says, and a comment above it."""

    name: str
    document: dict[str, Any]
    comment: str = ""


def command(arguments: argparse.Namespace) -> int:
    """Look, write three files, and say what to do next."""
    seen = recognize(arguments.url)
    name = arguments.name or seen.name
    folder: Path = arguments.output or Path(name)
    streams = _looked(seen, name, arguments.stream)
    files = [_source(seen, name, folder), _warehouse(), _pipeline(seen, name, streams)]
    existing = [str(folder / item.name) for item in files if (folder / item.name).exists()]
    if existing and not arguments.force:
        raise ConfigurationError(f"new: {', '.join(existing)} exist; choose another folder with -o, or use --force")
    folder.mkdir(parents=True, exist_ok=True)
    for item in files:
        text = yaml.safe_dump(item.document, sort_keys=False, allow_unicode=True, width=110)
        (folder / item.name).write_text(f"{item.comment}{text}", encoding="utf-8")
        print(f"wrote {folder / item.name}")
    if seen.secret:
        log("the password was not written; give it by its Secret, or here by")
        for key in seen.secret:
            log(f"  export {environment_prefix(_secret_name(name))}{key.upper()}=…")
    print(f"next: millstream run -f {folder}")
    return 0


def _looked(seen: Recognized, name: str, wanted: list[str] | None) -> list[StreamInfo]:
    from millstream_pipelines.endpoints import open_source

    source = open_source(Endpoint(name=name, type=seen.type, config=dict(seen.config)), seen.secret)
    try:
        streams = source.streams()
    finally:
        source.close()
    known = [item.name for item in streams]
    for stream in wanted or []:
        if stream not in known:
            raise ConfigurationError(f"new: no stream '{stream}'; found: {', '.join(known)}{near(stream, known)}")
    chosen = [item for item in streams if not wanted or item.name in wanted]
    if not chosen:
        raise ConfigurationError(f"new: {seen.shown} holds no stream; give a place with files, tables or records")
    return chosen


def _source(seen: Recognized, name: str, folder: Path) -> Written:
    spec: dict[str, Any] = {"type": seen.type, "config": seen.written(folder)}
    if seen.secret:
        spec["secretRef"] = {"name": _secret_name(name)}
    return Written("source.yaml", _object("DataSource", name, spec))


def _warehouse() -> Written:
    comment = "# The embedded PostgreSQL. Elsewhere: config {host, database}, and a secretRef for user and password.\n"
    return Written("warehouse.yaml", _object("Warehouse", "dw", _EMBEDDED), comment)


_EMBEDDED = {"type": "postgres", "config": {"embedded": True, "database": "dw"}}


def _pipeline(seen: Recognized, name: str, streams: Iterable[StreamInfo]) -> Written:
    spec = {
        "sourceRef": {"name": name},
        "warehouseRef": {"name": "dw"},
        "streams": [_stream(seen, item) for item in streams],
    }
    lines = [f"# {item.name}: {', '.join(f'{c.name} {c.type}' for c in item.schema)}" for item in streams]
    comment = "# Columns as they were found; list one under `columns` to cast, rename, mask or drop it.\n"
    return Written("pipeline.yaml", _object("Pipeline", name, spec), comment + "\n".join(lines) + "\n")


def _stream(seen: Recognized, info: StreamInfo) -> dict[str, Any]:
    stream: dict[str, Any] = {"name": info.name, "target": f"raw.{_table_name(info.name)}"}
    key = list(info.schema.primary_key)
    cursor = _cursor(info.schema)
    if seen.type == "files":
        stream |= {"mode": "incremental", "writeDisposition": "append"}  # files that were read are not read again
    elif key and cursor is not None:
        stream |= {"mode": "incremental", "cursor": {"field": cursor, "lag": _LAG}, "writeDisposition": "merge"}
    else:
        stream |= {"mode": "full", "writeDisposition": "replace"}
    if key:
        stream |= {"primaryKey": key, "checks": [{"type": "not_null", "columns": key}]}
    return stream


def _cursor(schema: Schema) -> str | None:
    times = {column.name.lower(): column.name for column in schema if column.type in _TIMES}
    return next((times[name] for name in _CURSORS if name in times), None)


def _table_name(stream: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", stream.rpartition(".")[2].lower()).strip("_") or "rows"
    return f"t_{name}"[:63] if name[0].isdigit() else name[:63]


def _secret_name(name: str) -> str:
    return f"{name}-login"


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
