"""Catalog: the objects of some files and folders, validated, found by kind and name."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from millstream_api import API_VERSION, BY_NAME, GROUP
from millstream_api.meta import ApiModel
from millstream_pipelines.manifests.documents import Document, read_documents
from millstream_pipelines.manifests.findings import Finding, ManifestError, explain_validation, near, path_text

DEFAULT_NAMESPACE = "default"
SUFFIXES = (".yaml", ".yml", ".json")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Manifest:
    """A validated object and where it was written."""

    kind: str
    namespace: str
    name: str
    spec: ApiModel
    document: Document

    @property
    def where(self) -> str:
        """`file:line`, for messages."""
        return f"{self.document.path}:{self.document.line()}"

    @property
    def title(self) -> str:
        """`Pipeline 'flights'`, for messages."""
        return f"{self.kind} '{self.name}'"

    def finding(self, fields: Sequence[str | int], message: str) -> Finding:
        """Return a finding at a field of this object."""
        where = f"{self.document.path}:{self.document.line(fields)}"
        return Finding(where, f"{self.title} (document {self.document.number}): {path_text(fields)}: {message}")


@dataclass
class Catalog:
    """Everything that was read. `ignored` names documents that are not ours, for example a ConfigMap."""

    objects: dict[tuple[str, str, str], Manifest] = field(default_factory=dict)
    secrets: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None."""
        return self.objects.get((kind, namespace, name))

    def of_kind(self, kind: str) -> list[Manifest]:
        """Return the objects of a kind in the order they were read."""
        return [item for item in self.objects.values() if item.kind == kind]

    def chosen(self, kind: str, name: str | None) -> list[Manifest]:
        """Return the objects of a kind, or the one of that name; ManifestError when there is none."""
        found = [item for item in self.of_kind(kind) if name in (None, item.name, f"{item.namespace}/{item.name}")]
        if found:
            return found
        names = [item.name for item in self.of_kind(kind)]
        if name is None or not names:
            raise ManifestError([Finding("manifests", f"no {kind} found; give its file or folder with -f")])
        message = f"no {kind} '{name}'; found: {', '.join(names)}{near(name, names)}"
        raise ManifestError([Finding("manifests", message)])


def read_catalog(paths: Iterable[Path]) -> Catalog:
    """Read files and folders (not their subfolders, as kubectl does). ManifestError lists all findings at once."""
    catalog = Catalog()
    findings: list[Finding] = []
    for path in _files(paths, findings):
        for document in read_documents(path):
            if isinstance(document, Finding):
                findings.append(document)
            else:
                findings.extend(_taken(catalog, document))
    if findings:
        raise ManifestError(findings)
    return catalog


def _files(paths: Iterable[Path], findings: list[Finding]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = sorted(item for item in path.iterdir() if item.suffix in SUFFIXES and item.is_file())
            if not inside:
                findings.append(Finding(str(path), f"holds no manifest ({', '.join(SUFFIXES)}); give another folder"))
            yield from inside
        elif path.exists():
            yield path
        else:
            findings.append(Finding(str(path), "no such file or folder; check the path given to -f"))


def _taken(catalog: Catalog, document: Document) -> Iterator[Finding]:
    """Put a document into the catalog and yield what is wrong with it."""
    value = document.value
    where = f"{document.path}:{document.line()}"
    if not isinstance(value, dict):
        yield Finding(where, f"document {document.number}: a mapping is expected, seen: {type(value).__name__}")
        return
    kind, version = str(value.get("kind", "")), str(value.get("apiVersion", ""))
    if not version.startswith(f"{GROUP}/") and kind not in BY_NAME and version and kind:
        if (version, kind) == ("v1", "Secret"):
            yield from _secret(catalog, document)
        else:
            catalog.ignored.append(f"{where}: {version} {kind}")
        return
    label = f"document {document.number}"
    if kind not in BY_NAME:
        known = [*BY_NAME, "Secret"]
        seen = f"unknown kind '{kind}'" if kind else "field 'kind' is missing"
        yield Finding(where, f"{label}: {seen}; known: {', '.join(known)}{near(kind, known)}")
    elif version != API_VERSION:
        seen = f"'{version}' is not accepted" if version else "is missing"
        yield Finding(where, f"{label}, {kind}: apiVersion: {seen}; accepted: '{API_VERSION}'")
    else:
        yield from _object(catalog, document, kind)


def _object(catalog: Catalog, document: Document, kind: str) -> Iterator[Finding]:
    value = document.value
    metadata = value.get("metadata") if isinstance(value.get("metadata"), dict) else {}
    name, namespace = str(metadata.get("name", "")), str(metadata.get("namespace") or DEFAULT_NAMESPACE)
    label = f"{kind} '{name}' (document {document.number})"

    def at(fields: Sequence[str | int], message: str) -> Finding:
        return Finding(f"{document.path}:{document.line(fields)}", f"{label}: {path_text(fields)}: {message}")

    if not _NAME.fullmatch(name):
        seen = f"'{name}' is not accepted" if name else "is missing"
        yield at(("metadata", "name"), f"{seen}; use lower-case letters, digits, '-' and '.', at most 253")
    extra = sorted(set(value) - {"apiVersion", "kind", "metadata", "spec", "status"})
    for key in extra:
        yield at((key,), f"unknown field; known: apiVersion, kind, metadata, spec{near(key, ['spec', 'metadata'])}")
    model = BY_NAME[kind].spec
    try:
        spec = model.model_validate(value.get("spec") if value.get("spec") is not None else {})
    except ValidationError as error:
        for loc, message in explain_validation(error, model):
            yield at(("spec", *loc), message)
        return
    known = catalog.get(kind, namespace, name)
    if known is not None:
        yield at((), f"is written twice in namespace '{namespace}': also at {known.where}; rename or remove one")
        return
    catalog.objects[(kind, namespace, name)] = Manifest(kind, namespace, name, spec, document)


def _secret(catalog: Catalog, document: Document) -> Iterator[Finding]:
    """Take a Secret: `data` is base64, `stringData` wins. Values never reach a message."""
    value: Mapping[str, Any] = document.value
    metadata = value.get("metadata") or {}
    name, namespace = str(metadata.get("name", "")), str(metadata.get("namespace") or DEFAULT_NAMESPACE)
    where = f"{document.path}:{document.line(('metadata', 'name'))}"
    if not name:
        yield Finding(where, f"Secret (document {document.number}): metadata.name: is missing; it is required")
        return
    entries: dict[str, str] = {}
    for key, raw in (value.get("data") or {}).items():
        try:
            entries[key] = base64.b64decode(str(raw), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            at = f"{document.path}:{document.line(('data', key))}"
            yield Finding(at, f"Secret '{name}': data.{key}: is not base64 of UTF-8 text; write it under stringData")
    for key, raw in (value.get("stringData") or {}).items():
        if not isinstance(raw, str):
            at = f"{document.path}:{document.line(('stringData', key))}"
            yield Finding(at, f"Secret '{name}': stringData.{key}: must be text; put it in quotes")
            continue
        entries[key] = raw
    catalog.secrets[(namespace, name)] = entries
