"""What a stream asks of its warehouse beyond plain loading: refused before the first row where it cannot be had."""

from __future__ import annotations

from millstream_api.stream import StreamSpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.warehouses.base import Warehouse, WarehouseFeature, abilities_of, kind_of

_CURE = "leave it out, or load into a warehouse that has it"


def require_abilities(stream: StreamSpec, warehouse: Warehouse) -> None:
    """Raise ConfigurationError that names the field which this warehouse cannot do."""
    merge = "use 'append', or 'replace' without primaryKey, or load into a warehouse that merges, such as postgres"
    asked: list[tuple[WarehouseFeature, bool, str, str]] = [
        ("merge", stream.write_disposition == "merge", "writeDisposition 'merge'", merge),
        ("merge", replaces_keys(stream), "primaryKey with writeDisposition 'replace' (one row of each key)", merge),
        ("scd2", stream.write_disposition == "scd2", "writeDisposition 'scd2'", _CURE),
        ("tags", bool(stream.tags), "`tags` (for the selectors of a RetentionPolicy)", _CURE),
        ("children", stream.nested.lists == "tables", "nested.lists 'tables'", _CURE),
        ("deletes", bool(stream.deletes.column or stream.deletes.reconcile_every), "`deletes`", _CURE),
    ]
    if stream.nested.lists == "tables" and (
        stream.write_disposition == "scd2" or stream.deletes.column or stream.deletes.reconcile_every
    ):
        raise ConfigurationError(
            f"stream '{stream.name}': nested.lists 'tables' is not built for `deletes` and writeDisposition 'scd2'; "
            "leave lists as json, or merge without them"
        )
    for ability, wanted, field, cure in asked:
        if wanted:
            require_ability(ability, warehouse, f"stream '{stream.name}': {field}", cure)


def require_ability(ability: WarehouseFeature, warehouse: Warehouse, what: str, cure: str = _CURE) -> None:
    """Raise ConfigurationError that names `what` where this warehouse cannot do it."""
    if ability not in abilities_of(warehouse):
        raise ConfigurationError(f"{what} is not built for a warehouse of type '{kind_of(warehouse)}'; {cure}")


def replaces_keys(stream: StreamSpec) -> bool:
    """Return whether a replace keeps one row of each key."""
    return stream.write_disposition == "replace" and bool(stream.primary_key)
