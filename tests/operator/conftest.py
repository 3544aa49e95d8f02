"""Shared by the operator's tests: a fixed time and the runner's defaults."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from millstream_operator.objects.podtemplate import RunnerDefaults
from millstream_operator.reconcile.observed import Context


@pytest.fixture
def ctx() -> Context:
    return Context(datetime(2026, 3, 1, 12, 0, tzinfo=UTC), RunnerDefaults("runner:1"))
