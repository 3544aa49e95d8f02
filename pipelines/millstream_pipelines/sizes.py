"""Sizes as people write them, and as they read them. Pure."""

from __future__ import annotations

_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip


def size_of(text: str) -> int:
    """Return the bytes of a Kubernetes quantity such as `200Gi`. ValueError when it is none."""
    number = text.rstrip("kMGTPi")
    unit = text[len(number) :]
    if unit not in _UNITS:
        raise ValueError(f"'{text}' is no size; write for example '200Gi'")
    return int(float(number) * _UNITS[unit])


def size(count: float) -> str:
    """Return a number of bytes in binary units: `12.3 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


__all__ = ["size", "size_of"]
