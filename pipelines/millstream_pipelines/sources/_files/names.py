"""File names: patterns, formats by ending, and the stem that names a stream. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from millstream_pipelines.sources._files.config import Format

_FORMATS: dict[str, Format] = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "json": "json",
    "ndjson": "ndjson",
    "jsonl": "ndjson",
    "parquet": "parquet",
    "pq": "parquet",
}
_PACKED = ("gz", "gzip", "zip", "zst", "zstd")


def format_of(name: str) -> Format | None:
    """Return the format that a name's endings say: `a/flights.csv.zip` → csv."""
    return _split(name)[1]


def stem_of(name: str) -> str:
    """Return the file's name without folder and without the endings we know: `a/flights.csv.zip` → flights."""
    return _split(name)[0]


def _split(name: str) -> tuple[str, Format | None]:
    parts = name.rsplit("/", 1)[-1].split(".")
    while len(parts) > 1 and parts[-1].lower() in _PACKED:
        parts.pop()
    known = _FORMATS.get(parts[-1].lower()) if len(parts) > 1 else None
    return ".".join(parts[:-1] if known else parts), known


def matches(name: str, glob: str) -> bool:
    """Return whether a relative name fits a pattern; hidden names only fit a pattern that spells the '.' or '_'."""
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    asked = any(part.startswith((".", "_")) for part in glob.split("/"))
    return (asked or not hidden) and _compiled(glob).fullmatch(name) is not None


@lru_cache(maxsize=256)
def _compiled(glob: str) -> re.Pattern[str]:
    """Translate a glob. `**/` is any number of folders, `**` anything, `*` and `?` stay within one."""
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", glob, re.DOTALL)
    made = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pattern = [made.get(token) or (_set(token) if len(token) > 2 else re.escape(token)) for token in tokens]
    return re.compile("".join(pattern), re.DOTALL)


def _set(token: str) -> str:
    inner = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
    return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
