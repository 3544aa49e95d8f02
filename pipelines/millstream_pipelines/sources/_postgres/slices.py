"""Slices of a table, by a hash of its key: each is read in a snapshot of its own, and a row stays in its slice.

Ranges of pages (ctid) would be cheaper to read. But a row that is updated moves to another page, and two snapshots
would then see it twice, or not at all.
"""

from __future__ import annotations

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.sources._postgres.catalog import Relation
from millstream_pipelines.sources._postgres.connection import identifier
from millstream_pipelines.sources.base import Slice

_WHOLE = ("smallint", "integer", "bigint")


def slice_condition(relation: Relation, wanted: Slice, owner: str) -> str:
    """Return the condition for one slice's rows. ConfigurationError where no key says which slice a row is in."""
    key = relation.schema.primary_key
    if not key:
        raise ConfigurationError(
            f"{owner}: stream '{relation.name}' ({relation.kind}) has no primary key, so shards could read a row twice "
            "that is updated meanwhile; name columns that identify a row under the source's `streams` (`primaryKey`), "
            "or set extract.shards to 1"
        )
    column = relation.schema.get(key[0])
    if len(key) == 1 and column is not None and column.type in _WHOLE and "CAST" not in relation.expressions[key[0]]:
        hashed = f"hashint8extended(coalesce({identifier(key[0])}, 0)::bigint, 0)"
    else:
        texts = ", ".join(f"{identifier(name)}::text" for name in key)
        hashed = f"hashtextextended(concat_ws('/', {texts}) COLLATE \"C\", 0)"
    return f"(({hashed} % {wanted.count}) + {wanted.count}) % {wanted.count} = {wanted.index}"


__all__ = ["slice_condition"]
