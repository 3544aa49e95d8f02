"""Every environment variable of the operator: unit, default and why."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


def _names(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _unique_name() -> str:
    return f"{os.uname().nodename}-{secrets.token_hex(4)}"  # two processes on one host must not share a Lease


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class SettingsError(ValueError):
    """A variable has a value that the operator cannot start with."""


class Settings(BaseModel):
    """The operator's settings. Variable: `MILLSTREAM_` and the field in capitals; but POD_NAME and POD_NAMESPACE."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    namespaces: Names = Field(default=(), description="Namespaces to serve, comma separated; empty means all.")
    runner_image: str = Field(min_length=1, description="Image of runs and probes.")
    runner_service_account: str = Field(default="default", description="Service account of their pods; no token.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(default="IfNotPresent")
    workers: int = Field(default=8, ge=1, le=256, description="Objects worked on at once. 8: they wait for the API.")
    api_qps: float = Field(default=20, gt=0, description="API requests per second, on average; bursts of twice that.")
    resync_seconds: float = Field(default=600, ge=10, description="Every object is looked at again this often.")
    leader_election: bool = Field(default=True, description="Only the holder of the Lease works; others stand by.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO")
    port: int = Field(default=8080, ge=0, le=65535, description="/healthz and /readyz. 0: any free port.")
    metrics_port: int = Field(default=8081, ge=0, le=65535, description="/metrics. 0: any free port.")
    pod_name: str = Field(default_factory=_unique_name, description="POD_NAME: identity in the Lease.")
    pod_namespace: str = Field(default="default", description="POD_NAMESPACE: where the Lease is.")

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """The namespaces to list and watch; (None,) is the whole cluster."""
        return self.namespaces or (None,)


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Return the settings; raises SettingsError naming each variable that is wrong."""
    values = {
        name: environment[variable(name)] for name in Settings.model_fields if environment.get(variable(name), "") != ""
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [f"{variable(str(item['loc'][0]))}: {item['msg']}" for item in error.errors()]
        raise SettingsError("; ".join(lines)) from error


def variable(field: str) -> str:
    """Return the name of the environment variable of a field."""
    return field.upper() if field.startswith("pod_") else f"MILLSTREAM_{field.upper()}"
