"""What a run, a restore or a query of a policy is asked for, and what it needs: warehouse, archive, moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from millstream_api import RunPlan
from millstream_api.retention_options import RetentionOptions
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.freshness import duration
from millstream_pipelines.registry import configured
from millstream_pipelines.retention.ddl import Ddl
from millstream_pipelines.retention.records import warehouse_name
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig
from millstream_pipelines.warehouses.postgres import PostgresWarehouse


@dataclass(frozen=True)
class RetentionRequest:
    """What to do. `secrets`: role (`warehouse`, `archive`) → key → value. `now` is the moment limits count from.

    `patience_s`: how long it waits for another run or restore that is at a table.
    """

    plan: RunPlan
    secrets: Mapping[str, Mapping[str, str]]
    run: str
    options: RetentionOptions = field(default_factory=RetentionOptions)
    now: datetime | None = None
    patience_s: float = 0.0

    @property
    def policy(self) -> RetentionPolicySpec:
        """The policy's spec."""
        if self.plan.policy is None:
            raise ConfigurationError("the plan holds no policy")
        return self.plan.policy

    @property
    def owner(self) -> str:
        """The policy, for messages."""
        return f"RetentionPolicy '{self.plan.name}'"

    @property
    def identity(self) -> str:
        """`namespace/name`: whose records are whose."""
        return f"{self.plan.namespace}/{self.plan.name}"


def warehouse_config(request: RetentionRequest) -> PostgresConfig:
    """Return how to reach the warehouse. ConfigurationError where it is of a type without partitions."""
    endpoint = request.plan.warehouse
    if endpoint is None:
        raise ConfigurationError("the plan names no Warehouse")
    if endpoint.type != "postgres":
        raise ConfigurationError(
            f"{request.owner}: Warehouse '{endpoint.name}' is of type '{endpoint.type}', which has no partitions; "
            "a RetentionPolicy needs one of type postgres"
        )
    return configured(
        PostgresConfig, endpoint.config, request.secrets.get("warehouse", {}), f"Warehouse '{endpoint.name}'"
    )


def archive_store(request: RetentionRequest, ddl: Ddl) -> ArchiveStore | None:
    """Return the place of the policy's archives of this warehouse; None where it has none."""
    archive, secret = request.policy.archive, request.secrets.get("archive", {})
    return None if archive is None else ArchiveStore(archive, secret, request.owner, warehouse_name(ddl))


def opened(request: RetentionRequest, config: PostgresConfig) -> Ddl:
    """Return a connection, `_millstream` being there."""
    warehouse = PostgresWarehouse(
        config, f"Warehouse '{request.plan.warehouse.name if request.plan.warehouse else ''}'"
    )
    try:
        warehouse.probe()
    finally:
        warehouse.close()
    return Ddl(config, request.owner, duration(request.policy.lock_timeout).total_seconds())


def moment(request: RetentionRequest, ddl: Ddl) -> datetime:
    """Return when the run is: by the server's clock, which is the same for every pod."""
    found: datetime = request.now or ddl.rows("SELECT now()")[0][0]
    return found.astimezone(UTC)


__all__ = ["RetentionRequest", "archive_store", "moment", "opened", "warehouse_config"]
