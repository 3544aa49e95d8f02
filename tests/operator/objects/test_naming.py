"""Names are deterministic and fit."""

from __future__ import annotations

import pytest

from millstream_operator.objects.cronjob import cronjob_name
from millstream_operator.objects.naming import Owner, child_name, label_value

LONG = "a" * 253


@pytest.mark.parametrize("name", ["orders", "orders.eu.west", LONG, "a-" * 40 + "a"])
def test_names_fit_and_repeat(name: str) -> None:
    first = child_name(name, "uid-1", "2026-03-01")
    assert first == child_name(name, "uid-1", "2026-03-01")
    assert first != child_name(name, "uid-2", "2026-03-01")
    assert first != child_name(name, "uid-12026-03-01")
    assert len(first) <= 63
    assert "." not in first
    assert len(cronjob_name(Owner("v1", "Pipeline", "shop", name, "uid"))) <= 49


def test_label_values_fit() -> None:
    assert label_value("orders") == "orders"
    assert len(label_value(LONG)) <= 63
    assert label_value(LONG) != label_value(LONG[:-1])
