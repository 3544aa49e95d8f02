"""The two ends of a plan, opened with their validated configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millstream_api import Endpoint
from millstream_pipelines import registry
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.sources.base import Source
from millstream_pipelines.warehouses.base import Warehouse


def open_source(endpoint: Endpoint | None, secret: Mapping[str, str]) -> Source:
    """Return the source of a plan. Raises ConfigurationError that names the DataSource and the field."""
    source: Source = _opened("sources", "DataSource", endpoint, secret)
    return source


def open_warehouse(endpoint: Endpoint | None, secret: Mapping[str, str]) -> Warehouse:
    """Return the warehouse of a plan. Raises ConfigurationError that names the Warehouse and the field."""
    warehouse: Warehouse = _opened("warehouses", "Warehouse", endpoint, secret)
    return warehouse


def _opened(family: registry.Family, kind: str, endpoint: Endpoint | None, secret: Mapping[str, str]) -> Any:
    if endpoint is None:
        raise ConfigurationError(f"the plan names no {kind}")
    owner = f"{kind} '{endpoint.name}'"
    plugin = registry.component(family, endpoint.type, owner)
    config = registry.configured(plugin.Config, endpoint.config, secret, f"{owner} config")
    if endpoint.secret_name:
        owner = f"{owner} (Secret '{endpoint.secret_name}')"
    return plugin(config, owner)
