"""What a stream asks of its warehouse beyond plain loading: refused before the first row where it cannot be had."""

from __future__ import annotations

from millstream_api.stream import StreamSpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.warehouses.base import Warehouse, abilities_of


def require_abilities(stream: StreamSpec, warehouse: Warehouse) -> None:
    """Raise ConfigurationError that names the field which this warehouse cannot do."""
    abilities = abilities_of(warehouse)
    asked: list[tuple[str, bool, str]] = [
        ("scd2", stream.write_disposition == "scd2", "writeDisposition 'scd2'"),
        ("children", stream.nested.lists == "tables", "nested.lists 'tables'"),
        ("deletes", bool(stream.deletes.column or stream.deletes.reconcile_every), "`deletes`"),
    ]
    if stream.nested.lists == "tables" and (
        stream.write_disposition == "scd2" or stream.deletes.column or stream.deletes.reconcile_every
    ):
        raise ConfigurationError(
            f"stream '{stream.name}': nested.lists 'tables' is not built for `deletes` and writeDisposition 'scd2'; "
            "leave lists as json, or merge without them"
        )
    for ability, wanted, field in asked:
        if wanted and ability not in abilities:
            raise ConfigurationError(
                f"stream '{stream.name}': {field} is not built for a warehouse of type '{warehouse.dialect}'; "
                "leave it out, or load into a warehouse that has it"
            )
