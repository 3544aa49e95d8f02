"""What a stream asks of its source and of its warehouse."""

from __future__ import annotations

from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import Position
from millstream_pipelines.deletes import follows_absence, read_columns
from millstream_pipelines.freshness import duration
from millstream_pipelines.sources.base import ReadRequest
from millstream_pipelines.warehouses.base import LoadSpec


def load_spec(stream: StreamSpec, *, pipeline: str, run: str, holder: str, full_refresh: bool = False) -> LoadSpec:
    """Return the load of a stream. `pipeline` is `namespace/name`."""
    return LoadSpec(
        pipeline=pipeline,
        stream=stream.name,
        run=run,
        holder=holder,
        target=stream.target,
        mode=stream.mode,
        disposition=stream.write_disposition,
        primary_key=tuple(stream.primary_key),
        contract=stream.contract,
        cursor_field=stream.cursor.field if stream.cursor else None,
        full_refresh=full_refresh,
        scd2=stream.scd2,
        tags=tuple(stream.tags),
        deletes=stream.deletes.column is not None,
        sweeps=stream.mode == "full" and follows_absence(stream),
        numbered=stream.nested.lists == "tables",
    )


def read_request(stream: StreamSpec, position: Position | None = None) -> ReadRequest:
    """Return the read of a stream from a committed position."""
    return ReadRequest(
        stream=stream.name,
        mode=stream.mode,
        cursor_field=stream.cursor.field if stream.cursor else None,
        lag=duration(stream.cursor.lag) if stream.cursor and stream.cursor.lag else None,
        position=position,
        columns=read_columns(stream),
    )
