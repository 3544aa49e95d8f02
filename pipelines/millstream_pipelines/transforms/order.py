"""The order in which transforms run: each after those whose targets it reads."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from millstream_api.pipeline import TransformSpec
from millstream_pipelines import registry
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.transforms.base import Transform


def ordered(specs: Sequence[TransformSpec], dialect: str) -> list[TransformSpec]:
    """Return the transforms in dependency order, as written where nothing decides.

    Raises ConfigurationError for SQL that cannot be parsed and for a circle, which it names.
    """
    by_target = {_full(spec.target): spec for spec in specs}
    graph: dict[str, set[str]] = {}
    for spec in specs:
        plugin = registry.component("transforms", spec.type, f"transform '{spec.name}'")
        engine: Transform = plugin(plugin.Config())
        own = _full(spec.target)
        graph[own] = {_full(table) for table in engine.reads(spec, dialect)} & (by_target.keys() - {own})
    try:
        return [by_target[target] for target in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        circle = " → ".join(by_target[target].name for target in error.args[1])
        raise ConfigurationError(f"transforms read each other in a circle: {circle}") from None


def _full(table: str) -> str:
    return table if "." in table else f"public.{table}"
