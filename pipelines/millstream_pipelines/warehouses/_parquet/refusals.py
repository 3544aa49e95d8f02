"""What a warehouse of plain files cannot do: said with the field's name and what to do instead."""

from __future__ import annotations

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.warehouses.base import LoadSpec

_INSTEAD = "or load into a warehouse of type postgres or duckdb"


def refuse_spec(spec: LoadSpec, owner: str) -> None:
    """Raise ConfigurationError for a load that would have to find or change single rows."""
    where = f"{owner}: stream '{spec.stream}'"
    if spec.disposition not in ("append", "replace"):
        raise ConfigurationError(
            f"{where}: writeDisposition '{spec.disposition}' changes single rows, and Parquet files are only added and "
            f"replaced; use 'append' or 'replace', {_INSTEAD}"
        )
    if spec.disposition == "replace" and spec.primary_key:
        raise ConfigurationError(
            f"{where}: primaryKey with writeDisposition 'replace' keeps one row of each key, which files cannot; leave "
            f"primaryKey out (a check `unique` says whether a key repeats), {_INSTEAD}"
        )
    for asked, what in (
        (spec.window is not None, "a backfill"),
        (spec.shard is not None, "extract.shards"),
        (spec.deletes or spec.sweeps, "`deletes`"),
        (spec.numbered, "nested.lists 'tables'"),
        (spec.origin != "source", "a replay of the quarantine"),
    ):
        if asked:
            raise ConfigurationError(
                f"{where}: {what} is not built for a warehouse of type 'parquet'; leave it out, {_INSTEAD}"
            )
    if spec.target.lower().startswith("_millstream."):
        raise ConfigurationError(
            f"{where}: target {spec.target}: _millstream is for what this tool keeps; change `target`"
        )
