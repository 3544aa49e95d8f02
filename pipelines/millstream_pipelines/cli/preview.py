"""`millstream preview`: the columns of a stream and its first rows, straight from the source."""

from __future__ import annotations

import argparse
from typing import Any

from millstream_pipelines.cli.output import print_json, table
from millstream_pipelines.cli.places import reachable
from millstream_pipelines.endpoints import open_source
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.json_rows import json_rows
from millstream_pipelines.manifests import Catalog, Manifest, plan_probe, read_catalog
from millstream_pipelines.sources.base import ReadRequest, Source, StreamInfo


def command(arguments: argparse.Namespace) -> int:
    """Show one stream, or list the streams when none is named and there are several."""
    catalog = read_catalog(arguments.filename)
    planned = plan_probe(catalog, _chosen(catalog, arguments.source))
    with reachable([planned]) as [ready]:
        source = open_source(ready.plan.source, ready.secrets["source"])
        try:
            return _show(source, arguments)
        finally:
            source.close()


def _chosen(catalog: Catalog, name: str | None) -> Manifest:
    found = catalog.chosen("DataSource", name)
    if len(found) > 1:
        names = ", ".join(item.name for item in found)
        raise ConfigurationError(f"preview: several DataSources: {names}; choose one with --source")
    return found[0]


def _show(source: Source, arguments: argparse.Namespace) -> int:
    if arguments.stream is None:
        streams = source.streams()
        if len(streams) != 1:
            _list(streams, arguments.json)
            return 0
        info = streams[0]
    else:
        info = source.describe(arguments.stream)
    rows, refused = _first(source, info.name, arguments.rows)
    if arguments.json:
        columns = [{"name": c.name, "type": c.type, "nullable": c.nullable} for c in info.schema]
        keys = list(info.schema.primary_key)
        print_json({"stream": info.name, "columns": columns, "primaryKey": keys, "rows": rows, "rejects": refused})
        return 0
    print(f"{info.name}: {len(info.schema)} columns")
    key = info.schema.primary_key
    print(table(("column", "type", "key"), [(c.name, c.type, "key" if c.name in key else "") for c in info.schema]))
    print()
    names = list(rows[0]) if rows else list(info.schema.names)
    print(table(names, [[row.get(name) for name in names] for row in rows]))
    for item in refused:
        print(f"cannot be read: {item['message']}: {item['row']}")
    return 0


def _list(streams: list[StreamInfo], as_json: bool) -> None:
    rows = [(item.name, len(item.schema), ", ".join(item.schema.primary_key)) for item in streams]
    if as_json:
        print_json({"streams": [{"name": name, "columns": count} for name, count, _ in rows]})
    else:
        print(table(("stream", "columns", "key"), rows))
        print("\nchoose one with --stream")


def _first(source: Source, stream: str, limit: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for batch in source.read(ReadRequest(stream)):
        rows += json_rows(batch.data.slice(0, limit - len(rows)))
        refused += [{"rule": item.rule, "message": item.message, "row": item.row} for item in batch.rejects]
        if len(rows) >= limit:
            break
    return rows, refused[:limit]
