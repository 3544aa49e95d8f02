"""Text for people and JSON for machines. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from millstream_pipelines.sizes import size as size

_WIDEST = 60  # characters of one cell; a longer value is cut with …


def print_json(document: object) -> None:
    """Write one JSON document to standard output."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def log(text: str) -> None:
    """Write one line to standard error at once."""
    print(text, file=sys.stderr, flush=True)


def fancy() -> bool:
    """Return whether standard error is a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


def number(value: float) -> str:
    """Return a count with its thousands apart: `336,776`."""
    return f"{value:,.0f}"


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], indent: str = "", widest: int = _WIDEST) -> str:
    """Return aligned columns; a column of numbers is set right, a cell wider than `widest` is cut."""
    body = [[_cell(value, widest) for value in row] for row in rows]
    numeric = [bool(body) and all(_is_number(row[i]) for row in body) for i in range(len(headers))]
    widths = [max(len(line[i]) for line in [list(headers), *body]) for i in range(len(headers))]
    lines = []
    for line in [list(headers), *body]:
        cells = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        lines.append(indent + "  ".join(cells).rstrip())
    return "\n".join(lines)


def drift_lines(found: Iterable[Any]) -> list[str]:
    """Return each drift of a report as one line."""
    lines = []
    for item in found:
        types = " → ".join(part for part in (item.before, item.after) if part)
        lines.append(f"{item.column}: {item.change} ({types}); {item.action}")
    return lines


def _cell(value: object, widest: int) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    text = number(value) if isinstance(value, int) else str(value)
    text = text.replace("\n", "⏎").replace("\t", "⇥")
    return text if len(text) <= widest else text[: widest - 1] + "…"


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).replace("-", "", 1).isdigit() or not text
