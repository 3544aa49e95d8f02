"""What a run would do: path, guarantee and SQL per stream. Reads both sides, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from millstream_api import Drift
from millstream_api.pipeline import TransformSpec
from millstream_api.stream import StreamSpec
from millstream_pipelines.abilities import require_abilities, require_ability
from millstream_pipelines.drift import drifts, own_columns
from millstream_pipelines.endpoints import open_source, open_warehouse
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.guarantee import guarantee
from millstream_pipelines.load_path import chosen
from millstream_pipelines.plain_rows import rows_of
from millstream_pipelines.raw_run import offered
from millstream_pipelines.row_checks import RowChecks
from millstream_pipelines.runner import RunRequest
from millstream_pipelines.schema import Schema
from millstream_pipelines.sources.base import Source
from millstream_pipelines.stream_requests import load_spec, read_request
from millstream_pipelines.transforms.order import ordered
from millstream_pipelines.warehouses.base import Warehouse
from millstream_pipelines.warehouses.optional import RawWarehouse

Child = tuple[StreamSpec, Schema]


@dataclass(frozen=True)
class StreamPlan:
    """What a run would do with one stream or transform."""

    name: str
    target: str
    path: str
    guarantee: str
    why: str
    columns: list[tuple[str, str]] = field(default_factory=list)
    sql: list[str] = field(default_factory=list)


def explain(request: RunRequest) -> list[StreamPlan]:
    """Return one plan per stream, then one per transform in the order they run. Raises MillstreamError."""
    plan, secrets = request.plan, request.secrets
    if plan.pipeline is None:
        raise ConfigurationError("the plan holds no pipeline")
    warehouse = open_warehouse(plan.warehouse, secrets.get("warehouse", {}))
    source = open_source(plan.source, secrets.get("source", {}))
    try:
        identity = f"{plan.namespace}/{plan.name}"
        streams = [
            found
            for stream in plan.pipeline.streams
            for found in _stream(stream, source, warehouse, identity, request.run)
        ]
        transforms: list[TransformSpec] = []
        if plan.pipeline.transforms:
            require_ability("transforms", warehouse, "`transforms`")
            transforms = ordered(plan.pipeline.transforms, warehouse.dialect)
        return streams + [_transform(transform) for transform in transforms]
    finally:
        source.close()
        warehouse.close()


@dataclass(frozen=True)
class StreamDiff:
    """What a run would change in the target of one stream. `table`: what becomes of the table itself."""

    name: str
    target: str
    table: Literal["stays", "is made", "left out: it is not there", "refused: it is not there"]
    drift: list[Drift] = field(default_factory=list)


_ABSENT: dict[str, Literal["is made", "left out: it is not there", "refused: it is not there"]] = {
    "evolve": "is made",
    "discard": "left out: it is not there",
    "freeze": "refused: it is not there",
}


def differences(request: RunRequest) -> list[StreamDiff]:
    """Return per stream how its target differs and what a run would do about it. Raises MillstreamError."""
    plan, secrets = request.plan, request.secrets
    if plan.pipeline is None:
        raise ConfigurationError("the plan holds no pipeline")
    warehouse = open_warehouse(plan.warehouse, secrets.get("warehouse", {}))
    source = open_source(plan.source, secrets.get("source", {}))
    try:
        return [found for stream in plan.pipeline.streams for found in _differences(stream, source, warehouse)]
    finally:
        source.close()
        warehouse.close()


def _described(stream: StreamSpec, source: Source, warehouse: Warehouse) -> tuple[Schema, list[Child]]:
    """Return the columns that a stream makes, and the child tables that a first batch of it shows."""
    nest = rows_of(stream, b"")
    wanted = nest.shaper(nest.described(source, warehouse.shape_of)).schema
    return wanted, nest.foreseen(wanted)


def _differences(stream: StreamSpec, source: Source, warehouse: Warehouse) -> list[StreamDiff]:
    require_abilities(stream, warehouse)
    wanted, children = _described(stream, source, warehouse)
    return [_difference(spec, schema, warehouse) for spec, schema in ((stream, wanted), *children)]


def _difference(stream: StreamSpec, wanted: Schema, warehouse: Warehouse) -> StreamDiff:
    shape = warehouse.shape_of(stream.target, wanted)
    if shape is None:
        made = [
            Drift(stream=stream.name, column=column.name, change="added", after=column.type, action="made")
            for column in wanted
        ]
        table = _ABSENT[stream.contract.tables]
        return StreamDiff(stream.name, stream.target, table, made if table == "is made" else [])
    found = drifts(stream.name, wanted, shape, stream.contract, own_columns(stream))
    return StreamDiff(stream.name, stream.target, "stays", found)


def _stream(stream: StreamSpec, source: Source, warehouse: Warehouse, identity: str, run: str) -> list[StreamPlan]:
    require_abilities(stream, warehouse)
    wanted, children = _described(stream, source, warehouse)
    request = read_request(stream)
    name, why = guarantee(stream, *source.guarantee(request))
    spec = load_spec(stream, pipeline=identity, run=run, holder="explain")
    checks = RowChecks(stream.checks, wanted, f"stream '{stream.name}'")
    taken = warehouse.fitted(spec, wanted) if isinstance(warehouse, RawWarehouse) else "the warehouse takes batches"
    path = chosen(stream, offered(source, request), taken, checks.row_checks)
    own = StreamPlan(
        name=stream.name,
        target=stream.target,
        path=str(path),
        guarantee=name,
        why=why,
        columns=[(column.name, column.type) for column in wanted],
        sql=warehouse.explain_raw(spec, wanted)
        if path.name == "raw" and isinstance(warehouse, RawWarehouse)
        else warehouse.explain_load(spec, wanted),
    )
    return [own, *(_child(child, schema, warehouse, own, identity, run) for child, schema in children)]


def _child(
    stream: StreamSpec, schema: Schema, warehouse: Warehouse, parent: StreamPlan, identity: str, run: str
) -> StreamPlan:
    spec = load_spec(stream, pipeline=identity, run=run, holder="explain")
    return replace(
        parent,
        name=stream.name,
        target=stream.target,
        path=f"arrow: elements of a list, in the transaction of {parent.target}",
        columns=[(column.name, column.type) for column in schema],
        sql=warehouse.explain_load(spec, schema),
    )


def _transform(spec: TransformSpec) -> StreamPlan:
    how = {"view": "a view", "table": "a table, old rows out and new rows in at one commit", "incremental": "a merge"}
    return StreamPlan(
        spec.name, spec.target, f"sql: {how[spec.materialize]}", "exactly-once", "one transaction", [], [spec.sql]
    )
