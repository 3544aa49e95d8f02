"""Kopf's handlers: each takes an event to the controller and nothing else. Importing this registers them all."""

import kopf

from millstream_operator.handlers import datasource, lifecycle, pipeline, pipelinerun, retentionpolicy, warehouse

__all__ = ["datasource", "lifecycle", "pipeline", "pipelinerun", "registry", "retentionpolicy", "warehouse"]


def registry() -> kopf.OperatorRegistry:
    """Return what the imports above have filled."""
    return kopf.get_default_registry()
