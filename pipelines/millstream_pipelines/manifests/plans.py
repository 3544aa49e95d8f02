"""Plans: a Pipeline and what it refers to → RunPlan and secrets, as the operator would make them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import unquote

from millstream_api import Endpoint, RunPlan
from millstream_api.datasource import Connected
from millstream_api.pipeline import PipelineSpec
from millstream_api.retentionpolicy import RetentionPolicySpec
from millstream_pipelines.manifests.catalog import Catalog, Manifest
from millstream_pipelines.manifests.findings import Finding, ManifestError, near

ENVIRONMENT_PREFIX = "MILLSTREAM_SECRET_"
LOCAL_PATHS = {
    "files": "url",
    "duckdb": "path",
    "parquet": "url",
}  # plug-in → the field that may be a path beside the manifest

Role = Literal["source", "warehouse"]


@dataclass(frozen=True)
class Planned:
    """A plan and the secrets that a pod would have mounted: role → key → value."""

    plan: RunPlan
    secrets: Mapping[str, Mapping[str, str]]


def plan_pipeline(catalog: Catalog, pipeline: Manifest) -> Planned:
    """Resolve a Pipeline's references. ManifestError lists everything that is missing."""
    spec = cast(PipelineSpec, pipeline.spec)
    findings: list[Finding] = []
    endpoints: dict[str, Endpoint] = {}
    secrets: dict[str, Mapping[str, str]] = {}
    for role, kind, name in (
        ("source", "DataSource", spec.source_ref.name),
        ("warehouse", "Warehouse", spec.warehouse_ref.name),
    ):
        found = catalog.get(kind, pipeline.namespace, name)
        if found is None:
            names = [item.name for item in catalog.of_kind(kind) if item.namespace == pipeline.namespace]
            have = f"found: {', '.join(names)}{near(name, names)}" if names else "none was found"
            fields = ("spec", f"{role}Ref", "name")
            findings.append(pipeline.finding(fields, f"no {kind} '{name}'; {have}; give its file with -f"))
            continue
        endpoints[role], secrets[role] = _endpoint(catalog, found, findings)
    if findings:
        raise ManifestError(findings)
    plan = RunPlan(
        action="run",
        namespace=pipeline.namespace,
        name=pipeline.name,
        source=endpoints["source"],
        warehouse=endpoints["warehouse"],
        pipeline=spec,
    )
    return Planned(plan, secrets)


def plan_policy(catalog: Catalog, policy: Manifest) -> Planned:
    """Resolve a RetentionPolicy's references. ManifestError lists everything that is missing."""
    spec = cast(RetentionPolicySpec, policy.spec)
    findings: list[Finding] = []
    found = catalog.get("Warehouse", policy.namespace, spec.warehouse_ref.name)
    secrets: dict[str, Mapping[str, str]] = {}
    endpoint = None
    if found is None:
        names = [item.name for item in catalog.of_kind("Warehouse") if item.namespace == policy.namespace]
        have = f"found: {', '.join(names)}{near(spec.warehouse_ref.name, names)}" if names else "none was found"
        message = f"no Warehouse '{spec.warehouse_ref.name}'; {have}; give its file with -f"
        findings.append(policy.finding(("spec", "warehouseRef", "name"), message))
    else:
        endpoint, secrets["warehouse"] = _endpoint(catalog, found, findings)
    if spec.archive is not None and spec.archive.secret_ref is not None:
        fields = ("spec", "archive", "secretRef", "name")
        secrets["archive"] = _secret(catalog, policy, spec.archive.secret_ref.name, fields, findings)
    if findings:
        raise ManifestError(findings)
    archive = spec.archive
    if archive is not None and archive.url.startswith("."):
        folder = policy.document.path.resolve().parent
        archive = archive.model_copy(update={"url": f"file://{os.path.normpath(folder / archive.url)}"})
    kept = spec.model_copy(update={"suspend": False, "pod": None, "archive": archive})
    plan = RunPlan(action="retain", namespace=policy.namespace, name=policy.name, warehouse=endpoint, policy=kept)
    return Planned(plan, secrets)


def plan_probe(catalog: Catalog, endpoint: Manifest) -> Planned:
    """Return the plan that probes a DataSource or a Warehouse."""
    findings: list[Finding] = []
    role: Role = "source" if endpoint.kind == "DataSource" else "warehouse"
    resolved, secret = _endpoint(catalog, endpoint, findings)
    if findings:
        raise ManifestError(findings)
    action: Literal["probe-source", "probe-warehouse"] = "probe-source" if role == "source" else "probe-warehouse"
    plan = RunPlan(action=action, namespace=endpoint.namespace, name=endpoint.name)
    return Planned(plan.model_copy(update={role: resolved}), {role: secret})


def environment_secret(name: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the keys of a Secret set by `MILLSTREAM_SECRET_<NAME>_<KEY>` (upper case, other signs as `_`)."""
    prefix = environment_prefix(name)
    values = os.environ if environment is None else environment
    return {key[len(prefix) :].lower(): value for key, value in values.items() if key.startswith(prefix)}


def environment_prefix(name: str) -> str:
    """Return what the environment variables of a Secret begin with."""
    return f"{ENVIRONMENT_PREFIX}{re.sub(r'[^A-Z0-9]', '_', name.upper())}_"


def _endpoint(catalog: Catalog, found: Manifest, findings: list[Finding]) -> tuple[Endpoint, dict[str, str]]:
    spec = cast(Connected, found.spec)
    config = _anchored(spec.type, spec.config, found.document.path.resolve().parent)
    name = spec.secret_ref.name if spec.secret_ref is not None else None
    secret = {} if name is None else _secret(catalog, found, name, ("spec", "secretRef", "name"), findings)
    return Endpoint(name=found.name, type=spec.type, config=config, secret_name=name), secret


def _secret(
    catalog: Catalog, owner: Manifest, name: str, fields: tuple[str, ...], findings: list[Finding]
) -> dict[str, str]:
    """Return a Secret's keys; a finding at the field that names it where there is none."""
    secret = _merged(catalog.secrets.get((owner.namespace, name), {}), environment_secret(name))
    if not secret:
        cure = f"add its manifest with -f, or set {environment_prefix(name)}<KEY>"
        findings.append(owner.finding(fields, f"no Secret '{name}'; {cure}"))
    return secret


def _merged(written: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return `written` with `environment` over it; a variable finds its key whatever the key's case and signs."""
    spelled = {re.sub(r"[^a-z0-9]", "_", key.lower()): key for key in written}
    return {**written, **{spelled.get(key, key): value for key, value in environment.items()}}


def _anchored(kind: str, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the configuration with a relative path made absolute: it is relative to its manifest."""
    field = LOCAL_PATHS.get(kind)
    value = config.get(field) if field is not None else None
    if field is None or not isinstance(value, str):
        return dict(config)
    path = unquote(value.removeprefix("file://")) if value.startswith("file://") else value
    if "://" in path or path.startswith(("/", ":")) or not path:
        return dict(config)
    return {**config, field: os.path.normpath(folder / path)}
