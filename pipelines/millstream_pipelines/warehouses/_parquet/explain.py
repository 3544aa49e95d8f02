"""What a load would write, changing nothing."""

from __future__ import annotations

from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses._parquet.log import COMMITS, TableLog, parts
from millstream_pipelines.warehouses._parquet.refusals import refuse_spec
from millstream_pipelines.warehouses._parquet.store import Store
from millstream_pipelines.warehouses._parquet.tables import fit
from millstream_pipelines.warehouses._parquet.types import stored_type
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.names import quote, quote_table


def explain_load(store: Store, spec: LoadSpec, schema: Schema, owner: str) -> list[str]:
    """Return the steps of a load of `schema`, in order; columns in the words of Arrow."""
    refuse_spec(spec, owner)
    log = TableLog(store, *parts(spec.target), owner)
    known = log.read().shape
    sent, columns = fit(spec.target, known, schema, spec.contract)
    before = {(item.name, item.type) for item in known or ()}
    new = [f"{quote(item.name)} {stored_type(item.type)}" for item in columns if (item.name, item.type) not in before]
    target = quote_table(spec.target, "main")
    steps = []
    if new:
        steps.append(
            f"CREATE TABLE {target} ({', '.join(new)})" if known is None else f"ALTER {target}: {', '.join(new)}"
        )
    what = "replaces all files before" if spec.disposition == "replace" else "adds the files"
    commit = f"{log.folder}/{COMMITS}/{log.state.number + 1:020d}.json"
    return [
        *steps,
        f"WRITE {log.folder}/data/<attempt>/part-N.parquet: {', '.join(sent.names)}; nobody reads it yet",
        f"CREATE {commit} IF ABSENT: the lease; whoever had it can commit no more",
        f"CREATE the next IF ABSENT, one per chunk: {what}, its quarantine, position and counts become true at once",
    ]
