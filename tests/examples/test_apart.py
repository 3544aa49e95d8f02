"""Examples are tried one after the other in one place: none may meet the tables or the state of another."""

from __future__ import annotations

from pathlib import Path

import yaml

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ON_A_CLUSTER = "07-on-a-cluster"  # the first one again, where nothing else is


def test_no_example_meets_what_another_left() -> None:
    found: list[tuple[str, str]] = []
    for path in EXAMPLES.glob("*/*.yaml"):
        for item in [] if path.parent.name == ON_A_CLUSTER else yaml.safe_load_all(path.read_text()):
            if item["kind"] == "Pipeline":
                spec = item["spec"]
                found.append(("pipeline", item["metadata"]["name"]))
                found += [(spec["warehouseRef"]["name"], stream.get("target", "")) for stream in spec["streams"]]
    assert len(found) > 20
    assert sorted(found) == sorted(set(found))
