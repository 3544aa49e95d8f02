"""The chart as helm renders it, as objects."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
CHARTS = Path(__file__).parents[2] / "charts"
CHART = CHARTS / "millstream"


class RefusedError(Exception):
    """Helm did not render; the message is what a user reads."""


@dataclass(frozen=True)
class Helm:
    """helm, on our chart."""

    binary: Path

    def __call__(self, *words: str, timeout_s: float = 120.0) -> str:
        line = [str(self.binary), *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=timeout_s)
        if done.returncode != 0:
            raise RefusedError(done.stderr + done.stdout)
        return done.stdout

    def text(self, *sets: str, release: str = "millstream", namespace: str = "millstream-system") -> str:
        """Render with `--set` for each of `sets`; 1.31 is the oldest Kubernetes the chart allows."""
        flags = [f"--set={item}" for item in sets]
        return self("template", release, str(CHART), f"--namespace={namespace}", "--kube-version=1.31.0", *flags)

    def render(self, *sets: str, release: str = "millstream", namespace: str = "millstream-system") -> list[Manifest]:
        return [item for item in yaml.safe_load_all(self.text(*sets, release=release, namespace=namespace)) if item]


def one(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """Return the only object of that kind (and name)."""
    found = [item for item in manifests if item["kind"] == kind and name in ("", item["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects {kind} {name}"
    return found[0]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [item for item in manifests if item["kind"] == kind]


def environment(manifests: list[Manifest]) -> dict[str, str]:
    """Return the operator's variables that have a fixed value."""
    container = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return {item["name"]: item.get("value", "") for item in container["env"]}
