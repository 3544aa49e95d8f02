"""A Shaper made at the first batch: a stream whose rows pass undecoded has none, and needs no Arrow for its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millstream_api.stream import StreamSpec
from millstream_pipelines.batch import Batch
from millstream_pipelines.column_plan import Unnested, plan_columns
from millstream_pipelines.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa

    from millstream_pipelines.shaping import Shaped, Shaper


class DeferredShaper:
    """See `Shaper`. What a manifest has wrong is a ConfigurationError here, as there."""

    def __init__(
        self,
        stream: StreamSpec,
        source: Schema,
        owner: str,
        mask_key: bytes = b"",
        unnested: Unnested | None = None,
    ) -> None:
        self._made: Shaper | None = None
        self._given = (stream, source, owner, mask_key, unnested)
        self._target: Schema | None = None
        self.source = source
        if stream.columns or stream.filter or stream.deletes.column:
            self.schema = self._shaper.schema
        else:
            outputs = plan_columns(stream, source, owner, unnested).outputs
            self.schema = Schema(tuple(item.column for item in outputs), tuple(stream.primary_key))

    @property
    def _shaper(self) -> Shaper:
        if self._made is None:
            from millstream_pipelines.shaping import Shaper

            self._made = Shaper(*self._given)
            if self._target is not None:
                self._made.bind(self._target)
        return self._made

    @property
    def private(self) -> frozenset[str]:
        """See `Shaper.private`: nothing, where no column is changed."""
        return frozenset() if self._made is None else self._made.private

    @property
    def private_sources(self) -> frozenset[str]:
        """See `Shaper.private_sources`."""
        return self._shaper.private_sources

    def covers(self, batch: pa.Schema, unnested: Unnested | None = None) -> bool:
        """See `Shaper.covers`."""
        return self._shaper.covers(batch, unnested)

    def bind(self, target: Schema) -> None:
        """See `Shaper.bind`."""
        self._target = target
        if self._made is not None:
            self._made.bind(target)

    def apply(self, batch: Batch) -> Shaped:
        """See `Shaper.apply`."""
        return self._shaper.apply(batch)
