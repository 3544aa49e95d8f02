"""What a run would do: path, guarantee and SQL per stream. Reads both sides, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from millstream_api import Drift
from millstream_api.pipeline import TransformSpec
from millstream_api.stream import StreamSpec
from millstream_pipelines.abilities import require_abilities
from millstream_pipelines.deletes import read_columns
from millstream_pipelines.drift import drifts, own_columns
from millstream_pipelines.endpoints import open_source, open_warehouse
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.guarantee import guarantee
from millstream_pipelines.load_path import chosen
from millstream_pipelines.raw_run import offered
from millstream_pipelines.row_checks import RowChecks
from millstream_pipelines.runner import RunRequest
from millstream_pipelines.schema import Schema
from millstream_pipelines.shaping import Shaper
from millstream_pipelines.sources.base import Source
from millstream_pipelines.stream_requests import load_spec, read_request
from millstream_pipelines.transforms.order import ordered
from millstream_pipelines.warehouses.base import RawWarehouse, Warehouse


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
        streams = [_stream(stream, source, warehouse, identity, request.run) for stream in plan.pipeline.streams]
        transforms = ordered(plan.pipeline.transforms, warehouse.dialect) if plan.pipeline.transforms else []
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
        return [_difference(stream, source, warehouse) for stream in plan.pipeline.streams]
    finally:
        source.close()
        warehouse.close()


def _difference(stream: StreamSpec, source: Source, warehouse: Warehouse) -> StreamDiff:
    info = source.describe(stream.name, read_columns(stream))
    wanted = Shaper(stream, info.schema, f"stream '{stream.name}'").schema
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


def _stream(stream: StreamSpec, source: Source, warehouse: Warehouse, identity: str, run: str) -> StreamPlan:
    require_abilities(stream, warehouse)
    info = source.describe(stream.name, read_columns(stream))
    wanted: Schema = Shaper(stream, info.schema, f"stream '{stream.name}'").schema
    request = read_request(stream)
    name, why = guarantee(stream, *source.guarantee(request))
    spec = load_spec(stream, pipeline=identity, run=run, holder="explain")
    checks = RowChecks(stream.checks, wanted, f"stream '{stream.name}'")
    taken = warehouse.fitted(spec, wanted) if isinstance(warehouse, RawWarehouse) else "the warehouse takes batches"
    path = chosen(stream, offered(source, request), taken, checks.row_checks)
    return StreamPlan(
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


def _transform(spec: TransformSpec) -> StreamPlan:
    how = {"view": "a view", "table": "a table, old rows out and new rows in at one commit", "incremental": "a merge"}
    return StreamPlan(
        spec.name, spec.target, f"sql: {how[spec.materialize]}", "exactly-once", "one transaction", [], [spec.sql]
    )
