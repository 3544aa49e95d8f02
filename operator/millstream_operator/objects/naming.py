"""Names, labels and owner references of the objects we make.

A child's name follows from its owner's UID and its logical window and from nothing else, so an operator that dies
between making a child and writing that down finds the same child again instead of making a second one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from millstream_api.meta import (
    API_VERSION,
    LABEL_KIND,
    LABEL_MANAGED_BY,
    LABEL_OWNER,
    LABEL_OWNER_UID,
    LABEL_ROLE,
    MANAGED_BY,
)

MAX_NAME = 63  # a label value
MAX_JOB_NAME = 60  # its pods' host names append the shard, `-63` at most, and may have 63 characters
MAX_CRONJOB_NAME = MAX_JOB_NAME - 11  # the CronJob controller appends the time to make a Job's name


@dataclass(frozen=True)
class Owner:
    """Who a child belongs to."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def reference(self, controller: bool = True) -> dict[str, Any]:
        """Return the owner reference; deleting the owner deletes the child."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": controller,
            "blockOwnerDeletion": False,
        }


def owner_of(body: dict[str, Any]) -> Owner:
    """Return the owner that an object of ours is to its children."""
    meta = body["metadata"]
    return Owner(
        body.get("apiVersion", API_VERSION), body["kind"], meta["namespace"], meta["name"], meta.get("uid", "")
    )


def short_hash(*parts: str) -> str:
    """Return 10 hex digits: 40 bits, so two children of one owner collide once in a million owners with 1000 each."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


def child_name(readable: str, *identity: str, limit: int = MAX_NAME) -> str:
    """Return `<readable>-<hash of identity>`, cut to `limit`, without dots (pods make host names of it)."""
    suffix = short_hash(*identity)
    stem = readable.replace(".", "-")[: limit - len(suffix) - 1].rstrip("-")
    return f"{stem}-{suffix}"


def label_value(name: str) -> str:
    """Return the name as a label value: as it is, or cut and hashed where it is too long."""
    return name if len(name) <= MAX_NAME else child_name(name, name)


def labels(owner: Owner, role: str, extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return the labels that every child carries: our watches select by the first, the cache indexes by the last."""
    return {
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_KIND: owner.kind,
        LABEL_OWNER: label_value(owner.name),
        LABEL_OWNER_UID: owner.uid,
        LABEL_ROLE: role,
        **(extra or {}),
    }
