"""What all tests share. Nothing here starts anything; a fixture does when it is used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own MILLSTREAM_… variables change no test, except those that choose a test server."""
    for name in list(os.environ):
        if name.startswith("MILLSTREAM_") and not name.startswith("MILLSTREAM_TEST_"):
            monkeypatch.delenv(name)
