"""Configuration of the source `sql`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

_CAMEL = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")
TypeName = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z_][\w .,()\[\]]*$")]


class SqlStream(BaseModel):
    """A stream beside the tables found: a query, or a table under another name or with other types."""

    model_config = _CAMEL
    name: str = Field(min_length=1, max_length=253, description="Name of the stream.")
    table: str | None = Field(default=None, description="Table or view, `table` or `schema.table`. Or give `query`.")
    query: str | None = Field(default=None, description="One SELECT without a semicolon, in the database's own SQL.")
    primary_key: list[str] = Field(
        default_factory=list, description="Columns that identify a row. Empty: the table's own primary key, if any."
    )
    columns: dict[str, TypeName] = Field(
        default_factory=dict,
        description="Column → SQL type in PostgreSQL's words, where the catalog (or, for a query, a sample) is wrong.",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError(f"stream '{self.name}': give `table` or `query`, one of them")
        return self


class SqlConfig(BaseModel):
    """Which database, what is read, and how long to wait for it."""

    model_config = _CAMEL
    url: str = Field(
        min_length=3,
        pattern=r"^[a-z][a-z0-9_]*(\+[a-z0-9_]+)?://",
        description="SQLAlchemy URL without the password, for example `mysql+pymysql://host:3306/shop` or "
        "`sqlite:////data/shop.db`. The runner image holds the drivers pymysql and sqlite; others are added to it.",
    )
    user: str | None = Field(default=None, description="User; usually a key of the Secret.")
    password: SecretStr | None = Field(default=None, description="Password; a key of the Secret.")
    connect_args: dict[str, str | int | bool] = Field(
        default_factory=dict, description="Further arguments of the driver's connect(), for example {ssl_ca: /path}."
    )
    schemas: list[str] = Field(
        default_factory=list, description="Schemas whose tables are streams, as `schema.table`. Empty: the default one."
    )
    streams: list[SqlStream] = Field(
        default_factory=list, description="Streams beside the tables found; the same name replaces the table found."
    )
    trust_cursor_order: bool = Field(
        default=False,
        description="true: read a cursor although transactions may commit its values out of order. Rows that commit "
        "late are then missed; `cursor.lag` with writeDisposition merge reads them.",
    )

    @model_validator(mode="after")
    def _no_password_in_url(self) -> Self:
        login = self.url.partition("://")[2].rpartition("@")[0]
        if ":" in login:
            raise ValueError("a password in `url` would be seen by everybody; put it into the Secret under `password`")
        return self


__all__ = ["SqlConfig", "SqlStream"]
