"""The protocol of a warehouse that takes one run from several processes: slices are staged, and published together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from millstream_pipelines.schema import Schema
from millstream_pipelines.warehouses.base import Counts, StreamLoad


@dataclass(frozen=True)
class Staged:
    """A slice that is committed to its stage. `found`: what its checks have found, as JSON."""

    index: int
    columns: Schema
    counts: Counts
    found: Any


@runtime_checkable
class SliceLoad(StreamLoad, Protocol):
    """The load of one slice into its stage; `shape` decides against the target and changes nothing there.

    One transaction, under a lease of the slice's own. `already_done`: an earlier attempt has staged it. Rejects are
    kept aside until the publication.
    """

    found: Any
    """What the checks have found, as JSON; committed with the rows."""


@runtime_checkable
class Publication(StreamLoad, Protocol):
    """The load that brings all slices of a stream into its target, under the stream's usual lease.

    `settle` does it; the commit takes the stages and what is known of them away. `write` is not called.
    """

    def staged(self) -> list[Staged]:
        """Return what is staged, by index."""
        ...


class Shards(Protocol):
    """What the processes of one run know of each other. The run counts as alive while one of them has this open."""

    finished: bool
    """Whether everything is published, transforms and checks included."""

    def fix(self, stream: str, made: Callable[[], Any]) -> Any:
        """Return what all slices of a stream agree on: what the first process made of it, as JSON."""
        ...

    def published(self, stream: str) -> Counts:
        """Return what the run has published into a stream."""
        ...

    def staged(self) -> dict[str, int]:
        """Return for each stream how many of its slices are staged; all of them once it is published."""
        ...

    def publishing(self) -> AbstractContextManager[None]:
        """Wait until no other process of this run publishes, and keep others out."""
        ...

    def finish(self) -> None:
        """Enter that the run is finished."""
        ...


@runtime_checkable
class ShardWarehouse(Protocol):
    """A warehouse with feature `shards`."""

    def shards(self, pipeline: str, run: str, count: int) -> Shards:
        """Join a run of `count` processes. Drops what an earlier run of the pipeline that is dead has left staged.

        Raises ConfigurationError when this run's own slices were dropped so.
        """
        ...
