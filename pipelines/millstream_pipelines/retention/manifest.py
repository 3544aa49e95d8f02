"""The manifest of an archive: written last, so that an attempt without one is never trusted. JSON, for any reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from millstream_pipelines.errors import DataError
from millstream_pipelines.retention.columns import ArchivedColumn, Content
from millstream_pipelines.retention.ranges import PartitionRange
from millstream_pipelines.retention.store import ArchiveStore, NoSuchObjectError, StoredObject

NAME = "_manifest.json"
_VERSION = 1


@dataclass(frozen=True)
class Manifest(PartitionRange):
    """All that is needed to trust, query or restore an archive. `folder` is the attempt's, relative to the url.

    `warehouse`: whose archive it is; empty where it was written before warehouses had names.
    """

    columns: tuple[ArchivedColumn, ...]
    ddl: tuple[str, ...]
    content: Content
    objects: tuple[StoredObject, ...]
    folder: str
    verified_at: str
    supersedes: str = ""
    erased: tuple[dict[str, Any], ...] = field(default=())
    warehouse: str = ""

    @property
    def key(self) -> str:
        """Where the manifest lies."""
        return f"{self.folder}/{NAME}"

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(item.size for item in self.objects)

    def document(self) -> bytes:
        """Return its text."""
        return json.dumps(
            {
                "version": _VERSION,
                "writer": f"millstream {version('millstream')}",
                "warehouse": self.warehouse,
                "table": self.table,
                "partition": self.partition,
                "oid": self.oid,
                "range": {"column": self.column, "kind": self.kind, "from": self.low, "to": self.high,
                          "timeZone": self.time_zone},
                "columns": [
                    {"name": item.name, "type": item.type, "form": item.form, "generated": item.generated}
                    for item in self.columns
                ],
                "ddl": list(self.ddl),
                "content": self.content.to_json(),
                "objects": [{"key": item.key, "size": item.size, "sha256": item.sha256} for item in self.objects],
                "folder": self.folder,
                "verifiedAt": self.verified_at,
                "supersedes": self.supersedes,
                "erased": list(self.erased),
            },
            indent=1,
        ).encode()  # fmt: skip


def read(store: ArchiveStore, key: str, put_into: str | None = None) -> Manifest:
    """Return the manifest of that key. DataError when it is not there, cannot be read, or is another warehouse's.

    `put_into`: the url that it was put into, for the message.
    """
    where = f"archive '{store.shown}', '{key}'"
    try:
        document = json.loads(store.read(key))
        if document["version"] != _VERSION:
            raise DataError(f"{where}: manifest version {document['version']}; this release reads {_VERSION}")
        whose = document.get("warehouse", "")
        if whose and store.warehouse and whose != store.warehouse:
            raise DataError(
                f"{where} is an archive of another warehouse ({whose}; this one is {store.warehouse}); nothing is done "
                "to it, and nothing is dropped because of it",
                reason="ArchiveMismatch",
            )
        span = document["range"]
        columns = tuple(ArchivedColumn(**item) for item in document["columns"])
        return Manifest(
            document["table"], document["partition"], document["oid"], span["column"], span["kind"], span["from"],
            span["to"], span["timeZone"], columns, tuple(document["ddl"]),
            Content.from_json(document["content"], columns),
            tuple(StoredObject(**item) for item in document["objects"]), document["folder"], document["verifiedAt"],
            document["supersedes"], tuple(document["erased"]), whose,
        )  # fmt: skip
    except NoSuchObjectError as error:
        raise missing(store, key, put_into) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where} is no manifest of ours: {error}", reason="ArchiveUnreadable") from error


def missing(store: ArchiveStore, key: str, put_into: str | None) -> DataError:
    """Return the error for an archive that is not where the policy says."""
    if store.is_at(put_into):
        text = f"archive '{store.shown}', '{key}' is gone"
    else:
        text = (
            f"archive '{key}' was put into '{put_into}', and the policy's archive.url is '{store.shown}', where it is "
            f"not: name '{put_into}' again, or copy there what lies in it"
        )
    return DataError(f"{text}; nothing that relies on it is dropped", reason="ArchiveMissing")


def manifests(store: ArchiveStore, table: str) -> Sequence[str]:
    """Return the keys of all manifests of a table that lie in the store."""
    return [key for key in store.keys(table) if key.endswith(f"/{NAME}")]


__all__ = ["NAME", "Manifest", "manifests", "missing", "read"]
