"""Manifests: files and folders → validated objects → RunPlan and secrets. What the operator does, on a laptop."""

from millstream_pipelines.manifests.catalog import Catalog, Manifest, read_catalog
from millstream_pipelines.manifests.findings import Finding, ManifestError
from millstream_pipelines.manifests.plans import Planned, plan_pipeline, plan_policy, plan_probe

__all__ = [
    "Catalog",
    "Finding",
    "Manifest",
    "ManifestError",
    "Planned",
    "plan_pipeline",
    "plan_policy",
    "plan_probe",
    "read_catalog",
]
