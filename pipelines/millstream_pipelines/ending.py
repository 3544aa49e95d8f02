"""How a process ends: what goes with it is not searched for garbage first."""

from __future__ import annotations

import atexit
import gc
import sys


def end_without_search() -> None:
    """Leave out Python's last search for garbage, which a small run would feel."""
    atexit.register(_freeze)


def _freeze() -> None:
    if "duckdb" not in sys.modules:  # its binding prints all that it finds alive as a leak
        gc.freeze()


__all__ = ["end_without_search"]
