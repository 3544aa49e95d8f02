"""The order in which transforms run: each after those whose targets it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from millstream_api.pipeline import TransformSpec
from millstream_pipelines import registry
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.transforms.base import Transform

_DEFAULT_SCHEMA = {"postgres": "public", "duckdb": "main"}


def ordered(specs: Sequence[TransformSpec], dialect: str) -> list[TransformSpec]:
    """Return the transforms in dependency order, as written where nothing decides.

    Raises ConfigurationError for SQL that cannot be parsed, for a circle, which it names, and for a view or table
    that reads itself.
    """
    by_target = {_full(spec.target, dialect): spec for spec in specs}
    graph: dict[str, set[str]] = {}
    for spec in specs:
        plugin = registry.component("transforms", spec.type, f"transform '{spec.name}'")
        engine: Transform = plugin(plugin.Config())
        own = _full(spec.target, dialect)
        reads = {_full(table, dialect) for table in engine.reads(spec, dialect)}
        if own in reads and spec.materialize != "incremental":
            raise ConfigurationError(
                f"transform '{spec.name}' reads its own target {spec.target}; only materialize 'incremental' may"
            )
        graph[own] = reads & (by_target.keys() - {own})
    try:
        return [by_target[target] for target in _sorted(graph, list(by_target))]
    except CycleError as error:
        circle = " → ".join(by_target[target].name for target in error.args[1])
        raise ConfigurationError(f"transforms read each other in a circle: {circle}") from None


def _sorted(graph: dict[str, set[str]], written: list[str]) -> Iterator[str]:
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    while sorter.is_active():
        for target in sorted(sorter.get_ready(), key=written.index):
            sorter.done(target)
            yield target


def _full(table: str, dialect: str) -> str:
    """Return `schema.table` as the catalog compares it: DuckDB's names differ by more than case."""
    full = table if "." in table else f"{_DEFAULT_SCHEMA.get(dialect, 'public')}.{table}"
    return full.lower() if dialect == "duckdb" else full
