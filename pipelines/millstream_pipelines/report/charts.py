"""Charts as inline SVG. Colours are CSS classes, so that light and dark follow the reader's system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH = 760
_LABEL = 190
_ROW = 26
_NUMBER = 120  # room for the figure behind a bar
_COLUMNS_HEIGHT = 150


@dataclass(frozen=True)
class Bar:
    """A bar of parts: (CSS class, what it counts, value), drawn one behind the other."""

    label: str
    parts: Sequence[tuple[str, str, float]]

    @property
    def total(self) -> float:
        """The length of the bar."""
        return sum(value for _, _, value in self.parts)


def bars(items: Sequence[Bar], caption: str) -> str:
    """Return horizontal bars, lengths by square root: a stream of 16 rows is seen beside one of a million.

    The figure stands behind each bar, so the scale misleads nobody.
    """
    widest = max((math.sqrt(item.total) for item in items), default=0) or 1
    room = _WIDTH - _LABEL - _NUMBER
    rows = []
    for index, item in enumerate(items):
        top = index * _ROW
        length = math.sqrt(item.total) / widest * room
        rows.append(f'<text class="label" x="{_LABEL - 10}" y="{top + 17}">{escape(_cut(item.label))}</text>')
        left = float(_LABEL)
        for css, name, value in item.parts:
            width = length * value / item.total if item.total else 0
            if width <= 0:
                continue
            shown = max(width, 1.5)  # a part that exists is seen
            tip = f"{escape(item.label)}: {value:,.0f} {escape(name)}"
            rows.append(
                f'<rect class="{css}" x="{left:.1f}" y="{top + 5}" width="{shown:.1f}" height="16" rx="2">'
                f"<title>{tip}</title></rect>"
            )
            left += shown
        rows.append(f'<text class="figure" x="{left + 8:.1f}" y="{top + 17}">{item.total:,.0f}</text>')
    return _svg(_WIDTH, max(len(items) * _ROW, _ROW), caption, rows)


def columns(values: Sequence[tuple[str, str, float]], caption: str, unit: str) -> str:
    """Return upright columns of (CSS class, label, value) from left to right; the largest value is labelled."""
    if not values:
        return ""
    largest = max(value for _, _, value in values) or 1
    step = min(64.0, (_WIDTH - 60) / len(values))
    base = _COLUMNS_HEIGHT - 22
    rows = [f'<line class="axis" x1="50" y1="{base}" x2="{_WIDTH}" y2="{base}"/>']
    rows.append(f'<text class="label" x="44" y="14">{largest:,.1f} {escape(unit)}</text>')
    rows.append(f'<text class="label" x="44" y="{base}">0</text>')
    for index, (css, label, value) in enumerate(values):
        height = max(value / largest * (base - 8), 1.5)
        left = 56 + index * step
        rows.append(
            f'<rect class="{css}" x="{left:.1f}" y="{base - height:.1f}" width="{step * 0.72:.1f}" '
            f'height="{height:.1f}" rx="2"><title>{escape(label)}: {value:,.2f} {escape(unit)}</title></rect>'
        )
        if len(values) <= 10:
            middle = left + step * 0.36
            rows.append(f'<text class="tick" x="{middle:.1f}" y="{base + 15}">{escape(label)}</text>')
    return _svg(_WIDTH, _COLUMNS_HEIGHT, caption, rows)


def _svg(width: int, height: int, caption: str, rows: Sequence[str]) -> str:
    inner = "\n".join(rows)
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(caption)}">\n{inner}\n</svg></figure>'
    )


def _cut(label: str) -> str:
    return label if len(label) <= 27 else label[:26] + "…"
