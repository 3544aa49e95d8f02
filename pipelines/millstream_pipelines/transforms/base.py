"""The protocol of a transform engine: from a spec to what the warehouse materializes."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel

from millstream_api.pipeline import TransformSpec


@runtime_checkable
class Transform(Protocol):
    """A transform engine. Constructed with its validated `Config`."""

    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: BaseModel) -> None: ...

    def reads(self, spec: TransformSpec, dialect: str) -> set[str]:
        """Return the tables the transform reads, `schema.table` as written; raises ConfigurationError."""
        ...
