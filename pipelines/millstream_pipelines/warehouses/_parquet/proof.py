"""Whether a place can be a warehouse: it must refuse to create an object that is there."""

from __future__ import annotations

import json

import pyarrow

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.failpoints import reached
from millstream_pipelines.warehouses._parquet.commits import FORMAT
from millstream_pipelines.warehouses._parquet.store import Store

WRITER = pyarrow.__version__
_KEY = "_millstream/version.json"


def prove(store: Store, owner: str) -> int:
    """Return the version of what is kept here. Raises ConfigurationError where commits would not be safe."""
    content = json.dumps({"format": FORMAT}).encode()
    first = store.create(_KEY, content)
    reached("migrated")
    if first and store.create(_KEY, content):
        raise ConfigurationError(
            f"{owner}: '{store.shown}' does not refuse to create an object that is there (If-None-Match), so two "
            "runners could both commit; use storage that honours conditional writes, or a folder"
        )
    found = store.get(_KEY)
    version = json.loads(found or b"{}").get("format", FORMAT)
    if version > FORMAT:
        raise ConfigurationError(
            f"{owner}: '{store.shown}' was written by a newer version of millstream (format {version}, this one knows "
            f"{FORMAT}); use that version"
        )
    return int(version)
