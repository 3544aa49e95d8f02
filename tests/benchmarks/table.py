"""The figures as one aligned table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_HEADERS = (
    "line", "rows", "limit s", "wall s", "ratio", "goal", "run s", "krows/s", "CPU s/Mrow", "RSS MiB", "at 1/10", "",
)  # fmt: skip


def rendered(found: Sequence[dict[str, Any]]) -> str:
    """Return the table: one line each, then what the names mean."""
    rows = [_HEADERS, *map(_cells, found)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADERS))]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    legend = [_legend(item) for item in found]
    return "\n".join([*lines, "", *legend])


def _cells(item: dict[str, Any]) -> tuple[str, ...]:
    if "failed" in item:
        return (item["line"], *[""] * (len(_HEADERS) - 2), "not measured")
    goal = f"≤ {item['goal_ratio']:.2f}" if item["goal_ratio"] else f"≤ {item['goal_s']:.2g} s"
    tenth = item["rss_tenth_mib"]
    tiny = item["rows"] < 1000
    return (
        item["line"],
        f"{item['rows']:,}",
        f"{item['limit_s']:.2f}",
        f"{item['wall_s']:.2f}",
        f"{item['ratio']:.2f}",
        goal,
        f"{item['run_s']:.2f}",
        "" if tiny else f"{item['krows_per_s']:.0f}",
        "" if tiny else f"{item['cpu_s_per_mrow']:.2f}",
        f"{item['rss_mib']:.0f}",
        "" if tenth is None else f"{tenth:.0f}",
        _verdict(item),
    )


def _verdict(item: dict[str, Any]) -> str:
    if item["reached"]:
        return "reached"
    over = item["rss_mib"] > item["goal_rss_mib"]
    return f"missed (RSS goal {item['goal_rss_mib']:g})" if over else "missed"


def _legend(item: dict[str, Any]) -> str:
    if "failed" in item:
        return f"{item['line']}: not measured: {item['failed']}"
    note = f"; {item['note']}" if item["note"] else ""
    return f"{item['line']}: {item['title']}; limit: {item['limit']}; {item['rounds']} rounds{note}"
