"""YAML text → documents with the line of every field. Reads scalars as kubectl does, not as YAML 1.1 allows.

PyYAML alone would turn `2024-01-31` into a date and `12:30` into 750; the API server takes both as text.
A key written twice is an error here: the second would silently win.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from millstream_pipelines.manifests.findings import Finding

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RETYPED = {f"tag:yaml.org,2002:{name}" for name in ("timestamp", "int", "float")}


@dataclass(frozen=True)
class Document:
    """One YAML document. `number` counts from 1 within its file."""

    path: Path
    number: int
    value: Any
    node: yaml.Node

    def line(self, fields: Sequence[str | int] = ()) -> int:
        """Return the line (from 1) of a field, or of the nearest thing around it that was written."""
        node = self.node
        line = node.start_mark.line
        for item in fields:
            if isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in node.value if getattr(pair[0], "value", None) == item), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(item, int) and item < len(node.value):
                node = node.value[item]
                line = node.start_mark.line
            else:
                break
        return int(line) + 1


class _Loader(_BASE):  # type: ignore[misc]
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                first = seen[key.value]
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key.value}' is written twice (first on line {first}); keep one", key.start_mark
                )
            seen[key.value] = key.start_mark.line + 1
        built = super().construct_mapping(node, deep)
        return {str(key): value for key, value in built.items()}


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag not in _RETYPED]
    for first, pairs in _BASE.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|^[-+]?\.inf$|^\.nan$"),
    list("-+0123456789."),
)


def read_documents(path: Path) -> Iterator[Document | Finding]:
    """Yield the documents of a file; a Finding where the text is not YAML (reading ends there)."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        yield Finding(str(path), f"cannot be read: {error.strerror}; check the path given to -f")
        return
    except UnicodeDecodeError as error:
        yield Finding(str(path), f"is not UTF-8 (byte {error.start}); save it as UTF-8")
        return
    loader = _Loader(text)
    number = 0
    try:
        while loader.check_node():
            node = loader.get_node()
            number += 1
            value = loader.construct_document(node)
            if value is not None:
                yield Document(path, number, value, node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = error.problem or str(error)
        yield Finding(f"{path}{line}", f"document {max(number, 1)}: not valid YAML: {problem}")
    except yaml.YAMLError as error:
        yield Finding(str(path), f"not valid YAML: {error}")
    finally:
        loader.dispose()
