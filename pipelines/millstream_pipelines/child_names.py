"""Names of child tables and of the columns by which their rows belong to a parent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from millstream_api.stream import StreamSpec
from millstream_pipelines.errors import ConfigurationError

SEPARATOR = "__"

Path = tuple[str, ...]
"""The fields of the lists from the stream down to a child table; () is the stream itself."""


def numbered(path: Path) -> list[str]:
    """Return the names of the columns that hold the places in the lists: the own list's is `_index`."""
    return [*(f"_index_{level}" for level in range(1, len(path))), "_index"]


def parent_key(key: Iterable[str]) -> Mapping[str, str]:
    """Return column of the stream's primary key → its name in every child table."""
    return {name: f"_parent_{name}" for name in key}


def child_stream(parent: StreamSpec, path: Path) -> StreamSpec:
    """Return a child table as a stream of its own. ConfigurationError when its names are too long."""
    named = SEPARATOR.join(re.sub(r"[^A-Za-z0-9_$]", "_", part) for part in path)
    key = [*parent_key(parent.primary_key).values(), *numbered(path)]
    try:
        return StreamSpec.model_validate(
            {
                "name": "/".join((parent.name, *path)),
                "target": f"{parent.target}{SEPARATOR}{named}",
                "mode": parent.mode,
                "primary_key": key,
                "write_disposition": parent.write_disposition,
                "contract": parent.contract,
            }
        )
    except ValidationError as error:
        raise ConfigurationError(
            f"stream '{parent.name}': the list '{'.'.join(path)}' cannot be a table: {error.errors()[0]['msg']}; lower "
            "nested.maxDepth, or name the column under `columns` to keep it whole"
        ) from None
