"""The cluster's own tests use the fixtures it offers to all."""

from cluster.plugin import control_plane, namespace, node

__all__ = ["control_plane", "namespace", "node"]
