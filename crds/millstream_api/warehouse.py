"""Warehouse: where data go."""

from __future__ import annotations

from pydantic import Field

from millstream_api.datasource import Connected
from millstream_api.meta import ConditionedStatus


class WarehouseSpec(Connected):
    """Where data go: the plug-in `type`, its `config`, and a Secret."""


class WarehouseStatus(ConditionedStatus):
    """What the last probe found."""

    server_version: str | None = Field(default=None, description="Version the server reports.")
    metadata_version: int | None = Field(default=None, description="Version of the `_millstream` schema.")
    last_probe_time: str | None = Field(default=None, description="When the last probe ended, RFC 3339 UTC.")
    probe_hash: str | None = Field(default=None, description="Hash of what the last probe was made from.")
    probe_failures: int | None = Field(default=None, description="Probes in a row that failed and may be repeated.")
    secret_version: str | None = Field(default=None, description="Resource version of the Secret the last probe saw.")
