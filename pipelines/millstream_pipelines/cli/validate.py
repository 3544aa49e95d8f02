"""`millstream validate`: manifests, references, plug-in names and their configurations, without reaching anything."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast

from millstream_api.datasource import Connected
from millstream_api.pipeline import PipelineSpec
from millstream_api.stream import CheckSpec
from millstream_pipelines.abilities import require_abilities, require_ability
from millstream_pipelines.cli.output import print_json
from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.manifests import (
    Catalog,
    Finding,
    Manifest,
    ManifestError,
    plan_pipeline,
    plan_policy,
    read_catalog,
)
from millstream_pipelines.registry import Family, component, configured

Fields = tuple[str | int, ...]


def command(arguments: argparse.Namespace) -> int:
    """Say what was read, or raise a ManifestError with all findings."""
    catalog = read_catalog(arguments.filename)
    if arguments.pipeline is not None:
        catalog.chosen("Pipeline", arguments.pipeline)
    findings = list(inspected(catalog))
    if findings:
        raise ManifestError(findings)
    counts = Counter(item.kind for item in catalog.objects.values()) + Counter(Secret=len(catalog.secrets))
    if arguments.json:
        print_json({"exitCode": 0, "objects": counts, "ignored": catalog.ignored, "findings": []})
    else:
        print("valid: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
        for note in catalog.ignored:
            print(f"not ours, ignored: {note}")
    return 0


def inspected(catalog: Catalog) -> Iterator[Finding]:
    """Yield what the API server would not see: plug-ins, their fields, references."""
    for manifest in catalog.objects.values():
        if manifest.kind in ("DataSource", "Warehouse"):
            yield from _connected(manifest)
        elif manifest.kind == "Pipeline":
            yield from _pipeline(catalog, manifest)
        elif manifest.kind == "RetentionPolicy":
            try:
                plan_policy(catalog, manifest)
            except ManifestError as error:
                yield from error.findings


def _connected(manifest: Manifest) -> Iterator[Finding]:
    spec = cast(Connected, manifest.spec)
    family: Family = "sources" if manifest.kind == "DataSource" else "warehouses"
    config = dict(spec.config)
    if config.pop("embedded", False):
        config = {"host": "embedded", "database": "dw", "user": "postgres", **config}
    if spec.secret_ref is None:
        yield from _plugin(manifest, family, spec.type, config, ("spec",))
    else:  # a required field may come from the Secret, so only the name can be judged
        try:
            component(family, spec.type, manifest.title)
        except ConfigurationError as error:
            yield manifest.finding(("spec", "type"), str(error))


def _pipeline(catalog: Catalog, manifest: Manifest) -> Iterator[Finding]:
    spec = cast(PipelineSpec, manifest.spec)
    try:
        plan_pipeline(catalog, manifest)
    except ManifestError as error:
        yield from error.findings
    yield from _abilities(catalog, manifest, spec)
    for number, stream in enumerate(spec.streams):
        yield from _checks(manifest, stream.checks, ("spec", "streams", number, "checks"))
    for number, transform in enumerate(spec.transforms):
        yield from _checks(manifest, transform.checks, ("spec", "transforms", number, "checks"))
    yield from _checks(manifest, spec.checks, ("spec", "checks"))


def _abilities(catalog: Catalog, manifest: Manifest, spec: PipelineSpec) -> Iterator[Finding]:
    """Yield what the warehouse, by its type, is not built for."""
    found = catalog.get("Warehouse", manifest.namespace, spec.warehouse_ref.name)
    try:
        plugin = component("warehouses", cast(Connected, found.spec).type, "") if found is not None else None
    except ConfigurationError:  # found at the Warehouse itself
        plugin = None
    if plugin is None:
        return
    for number, stream in enumerate(spec.streams):
        try:
            require_abilities(stream, plugin)
        except ConfigurationError as error:
            yield manifest.finding(("spec", "streams", number), str(error))
    if spec.transforms:
        try:
            require_ability("transforms", plugin, "`transforms`")
        except ConfigurationError as error:
            yield manifest.finding(("spec", "transforms"), str(error))


def _checks(manifest: Manifest, checks: Sequence[CheckSpec], fields: Fields) -> Iterator[Finding]:
    for number, check in enumerate(checks):
        yield from _plugin(manifest, "checks", check.type, check.parameters(), (*fields, number))


def _plugin(
    manifest: Manifest, family: Family, name: str, config: dict[str, object], fields: Fields
) -> Iterator[Finding]:
    try:
        configured(component(family, name, name).Config, config, {}, name)
    except ConfigurationError as error:
        yield manifest.finding(fields, str(error))
