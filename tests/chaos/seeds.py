"""The seed of what is drawn by chance: the one given, or the commit's, so that what has passed is what passes again."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path


def seed() -> int:
    """Return MILLSTREAM_TEST_SEED; without it a number made of the commit; without a repository one of the clock."""
    given = os.environ.get("MILLSTREAM_TEST_SEED")
    if given:
        return int(given)
    commit = subprocess.run(
        ["git", "rev-parse", "--short=7", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return int(commit.stdout, 16) if commit.returncode == 0 else time.time_ns() // 1000 % 1_000_000_000
