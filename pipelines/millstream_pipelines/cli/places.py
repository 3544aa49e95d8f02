"""Places: from manifests to endpoints that can be reached, the embedded PostgreSQL started where one asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from millstream_api import Endpoint, RunPlan
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.manifests import Planned

if TYPE_CHECKING:
    from millstream_pipelines.metadata import Metadata
    from millstream_pipelines.warehouses.base import Warehouse

DEFAULT_DATABASE = "dw"
_EMBEDDED_TYPE = "postgres"


def home() -> Path:
    """Return the folder where the command keeps things between runs."""
    return Path(os.environ.get("MILLSTREAM_HOME") or ".millstream")


@contextmanager
def reachable(planned: Sequence[Planned]) -> Iterator[list[Planned]]:
    """Yield the plans with `embedded: true` replaced by host, port, user and database of a running server."""
    with ExitStack() as stack:
        if not any(_embedded(endpoint) for item in planned for endpoint in _endpoints(item.plan).values()):
            yield list(planned)
            return
        from millstream_pipelines import embedded

        server = stack.enter_context(embedded.serving(home() / "postgres"))

        def resolved(endpoint: Endpoint) -> Endpoint:
            if not _embedded(endpoint):
                return endpoint
            config = {key: value for key, value in endpoint.config.items() if key != "embedded"}
            database = str(config.get("database") or DEFAULT_DATABASE)
            embedded.ensure_database(server, database)
            return endpoint.model_copy(update={"config": {**config, **server.config(database)}})

        yield [
            replace(
                item,
                plan=item.plan.model_copy(
                    update={role: resolved(endpoint) for role, endpoint in _endpoints(item.plan).items()}
                ),
            )
            for item in planned
        ]


@contextmanager
def warehouse_of(planned: Planned) -> Iterator[Warehouse]:
    """Yield the warehouse of a plan, and close it."""
    from millstream_pipelines.endpoints import open_warehouse

    warehouse = open_warehouse(planned.plan.warehouse, planned.secrets.get("warehouse", {}))
    try:
        yield warehouse
    finally:
        warehouse.close()


@contextmanager
def metadata_of(planned: Planned) -> Iterator[Metadata]:
    """Yield what the warehouse of a plan knows of its pipeline."""
    from millstream_pipelines.metadata import Metadata

    with warehouse_of(planned) as warehouse:
        yield Metadata(warehouse, f"{planned.plan.namespace}/{planned.plan.name}")


def _endpoints(plan: RunPlan) -> dict[str, Endpoint]:
    return {role: item for role, item in (("source", plan.source), ("warehouse", plan.warehouse)) if item is not None}


def _embedded(endpoint: Endpoint) -> bool:
    asked = endpoint.config.get("embedded", False)
    if asked is False:
        return False
    if asked is not True or endpoint.type != _EMBEDDED_TYPE or endpoint.config.get("host"):
        raise ConfigurationError(
            f"'{endpoint.name}': config.embedded: {asked!r} with type '{endpoint.type}'"
            f"{' and a host' if endpoint.config.get('host') else ''}; accepted: true, with type postgres and no host"
        )
    return True
