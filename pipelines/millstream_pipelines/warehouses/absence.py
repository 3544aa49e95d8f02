"""What becomes of rows whose key the source has no more, and what forbids it. Pure; any SQL engine's words."""

from __future__ import annotations

from dataclasses import dataclass

from millstream_pipelines.errors import ConfigurationError, DataError
from millstream_pipelines.warehouses.base import LoadSpec
from millstream_pipelines.warehouses.names import quote


@dataclass(frozen=True)
class Absence:
    """All SQL: `target` is a table, `keys` a FROM item named k with the keys that are there, in its types, and `old`
    a condition that holds for rows t of the target that were there before the keys were read."""

    target: str
    keys: str
    old: str
    spec: LoadSpec

    def everything(self) -> str:
        """Ask whether rows are there of which none would be left."""
        return (
            f"SELECT EXISTS (SELECT 1 FROM {self.target} t WHERE {self._holds}) "
            f"AND NOT EXISTS (SELECT 1 FROM {self.target} t JOIN {self.keys} ON {self._same} WHERE {self._holds})"
        )

    def take_out(self) -> str:
        """Delete the rows, or end their validity now."""
        gone = f"{self._holds} AND {self.old} AND NOT EXISTS (SELECT 1 FROM {self.keys} WHERE {self._same})"
        if self.spec.disposition != "scd2":
            return f"DELETE FROM {self.target} AS t WHERE {gone}"
        begin, end = quote(self.spec.scd2.valid_from), quote(self.spec.scd2.valid_to)
        tick = "interval '1 microsecond'"  # a version that begins in the future holds for a moment
        return f"UPDATE {self.target} AS t SET {end} = greatest(now(), t.{begin} + {tick}) WHERE {gone}"

    @property
    def _holds(self) -> str:
        return f"t.{quote(self.spec.scd2.valid_to)} IS NULL" if self.spec.disposition == "scd2" else "true"

    @property
    def _same(self) -> str:
        return " AND ".join(f"t.{quote(name)} = k.{quote(name)}" for name in self.spec.primary_key)


def everything_gone(spec: LoadSpec, keys: int) -> DataError:
    """Return the error of a source that has none of the target's keys."""
    return DataError(
        f"stream '{spec.stream}': the source has {keys} keys, and none of them is in {spec.target}: every row would "
        "leave it. Nothing was taken out. If the source is right (or the key's form has changed), run once with "
        "fullRefresh; otherwise look why it is empty",
        reason="EverythingGone",
    )


def loaded_by_others(spec: LoadSpec, pipeline: str, stream: str) -> ConfigurationError:
    """Return the error of a target that another stream loads too."""
    return ConfigurationError(
        f"stream '{spec.stream}': {spec.target} is also loaded by {pipeline} stream '{stream}', whose rows this source "
        "does not have: they would be taken out. Give each stream a target of its own, or leave out "
        "deletes.reconcileEvery"
    )
