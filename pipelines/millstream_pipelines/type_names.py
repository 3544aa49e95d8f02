"""The SQL type names a manifest may use, so that a slip of the pen is told before the first row."""

from __future__ import annotations

import re

from millstream_pipelines.errors import unknown_value
from millstream_pipelines.schema import normalized

_PLAIN = """
bigint bit boolean box bytea character cidr circle citext date geography geometry hstore inet integer interval json
jsonb line lseg ltree macaddr macaddr8 money name numeric oid path point polygon real smallint text time timestamp
timestamptz timetz tsquery tsvector uuid vector xml
"""
_RANGES = frozenset(
    f"{kind}{suffix}" for kind in ("int4", "int8", "num", "ts", "tstz", "date") for suffix in ("range", "multirange")
)
KNOWN = _RANGES | {*_PLAIN.split(), "bit varying", "character varying", "double precision"}


def declared(name: str, owner: str) -> str:
    """Return the normalized spelling of a declared type.

    A name with a schema (`app.mood`) is taken as the user's own type. Raises ConfigurationError that lists the known
    names for any other.
    """
    spelled = normalized(name)
    base = re.sub(r"\(.*?\)|\[\]", "", spelled).strip()
    if base in KNOWN or re.fullmatch(r"[a-z_]\w*\.[a-z_]\w*", base):
        return spelled
    raise unknown_value(owner, "type", name, KNOWN)
