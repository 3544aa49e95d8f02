"""SQL expressions over the columns of a batch: parsed and bound before the first row, evaluated by a locked DuckDB.

An expression is a scalar of its row: no subquery, aggregate, window, table function, nor anything whose value
depends on when or where it runs. It sees columns in the types of `schema.arrow_type`: what Arrow keeps as text
(numeric without precision, uuid, jsonb, …) is text here, to be cast where it matters. DuckDB's own rules apply inside
(1/0 is infinite, `::integer` rounds).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

from millstream_pipelines.errors import ConfigurationError
from millstream_pipelines.schema import Schema, sql_type

_ROWS = "source_rows"
_SCALAR = """
BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA LAMBDA_REF OPERATOR TYPE
"""
_KINDS = {"SUBQUERY": "a subquery", "WINDOW": "a window function", "STAR": "`*`", "PARAMETER": "a parameter"}
# Not volatile by DuckDB's catalog, but macros over something that is, or more than one row per row.
_REFUSED = """
ago current_catalog current_database current_query current_schema current_schemas format_type get_block_size
pg_conf_load_time pg_get_constraintdef pg_get_viewdef pg_postmaster_start_time unnest user
"""
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "enable_external_access": "false",
    # Half of what a runner may use; a batch is at most 64 MiB. It bounds what DuckDB counts: a function that makes
    # values of gigabytes (`repeat`) can pass it, and then the pod's own limit holds.
    "memory_limit": "256MB",
    "temp_directory": "",
    "threads": "2",
}


@dataclass(frozen=True)
class Expression:
    """A checked expression. `inputs` are the columns it reads; `type` is the SQL type of its result."""

    text: str
    sql: str
    inputs: tuple[str, ...]
    type: str


@dataclass(frozen=True)
class Evaluated:
    """A value per row, NULL where `failed` (never null; None: no row failed). `message` is DuckDB's, of one row."""

    values: pa.Array
    failed: pa.BooleanArray | None = None
    message: str = ""


def compiled(text: str, schema: Schema, owner: str) -> Expression:
    """Parse and bind an expression over the columns of `schema`.

    Raises ConfigurationError: DuckDB's words, what is not allowed, or the known columns.
    """
    tree = _parsed(text, owner)
    names = {column.name.lower(): column.name for column in schema}
    inputs = []
    for node in _nodes(tree):
        kind = node["class"]
        if kind not in _SCALAR.split():
            raise ConfigurationError(f"{owner}: {_KINDS.get(kind, kind)} is not allowed in `{text}`; {_ALLOWED}")
        if kind == "FUNCTION":
            _allow_function(str(node["function_name"]).lower(), text, owner)
        if kind == "COLUMN_REF" and node["column_names"][0].lower() in names:
            inputs.append(names[node["column_names"][0].lower()])
    return _bound(text, schema, tuple(dict.fromkeys(inputs)), owner)


def condition(text: str, schema: Schema, owner: str) -> Expression:
    """Compile an expression that must be boolean."""
    expression = compiled(text, schema, owner)
    if expression.type != "boolean":
        raise ConfigurationError(f"{owner}: `{text}` is {expression.type}; a condition (boolean) is wanted")
    return expression


def evaluate(expression: Expression, columns: pa.RecordBatch) -> Evaluated:
    """Evaluate over rows; `columns` has at least the expression's inputs, stored as `schema.arrow_type` says.

    A row whose evaluation fails (a cast, an overflow) is found without a look at each: TRY gives NULL for an error,
    and a list around the value tells that NULL from one that was computed. Raises ConfigurationError for an error
    that is no row's fault (memory).
    """
    import duckdb

    rows = _rows(expression, columns)
    try:
        return Evaluated(_columns(f"SELECT {expression.sql} FROM {_ROWS}", rows)[0])
    except duckdb.Error as error:
        first = error
    tried = (
        f"SELECT tried IS NULL AS failed, tried[1] AS value FROM (SELECT TRY([{expression.sql}]) AS tried FROM {_ROWS})"
    )
    try:
        failed, values = _columns(tried, rows)
    except duckdb.Error as error:
        raise ConfigurationError(f"expression `{expression.text}`: {_words(error)}") from first
    return Evaluated(values, failed, _words(first))


_ALLOWED = "an expression is computed from the columns of one row, the same at any time"


@cache
def _engine() -> Any:
    """Return the one DuckDB of this process: no files, no network, no extensions, settings locked."""
    import duckdb

    engine = duckdb.connect(":memory:", config=_SETTINGS)
    engine.execute("SET GLOBAL TimeZone = 'UTC'")
    engine.execute("SET GLOBAL python_enable_replacements = false")
    # It would lift a failing subexpression out of TRY, and the row's error would be the batch's again.
    engine.execute("SET GLOBAL disabled_optimizers = 'common_subexpressions'")
    engine.execute("SET lock_configuration = true")
    return engine


_ENGINE_LOCK = threading.Lock()


def _columns(sql: str, rows: pa.Table) -> list[pa.Array]:
    with _ENGINE_LOCK:
        cursor = _engine().cursor()
    with cursor:
        cursor.register(_ROWS, rows)
        result = cursor.sql(sql).to_arrow_table()
    if result.num_rows != rows.num_rows:
        raise ConfigurationError(f"`{sql}` made {result.num_rows} values of {rows.num_rows} rows; {_ALLOWED}")
    return [pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type) for column in result]


def _rows(expression: Expression, columns: pa.RecordBatch) -> pa.Table:
    # A literal has no inputs, but still one value per row.
    present = list(expression.inputs) or columns.schema.names[:1]
    if not present:
        return pa.table({"rows": pa.nulls(columns.num_rows)})
    return pa.Table.from_batches([columns.select(present)])


def _parsed(text: str, owner: str) -> Any:
    if not text.strip():  # DuckDB reads `()` as an empty row
        raise ConfigurationError(f"{owner}: an empty text is no SQL expression")
    with _ENGINE_LOCK:
        engine = _engine()
        row = engine.execute("SELECT json_serialize_sql(?)", [f"SELECT ({text}\n) FROM {_ROWS}"]).fetchall()[0]
    answer = json.loads(row[0])
    if answer.get("error"):
        why = answer.get("error_message", "syntax error")
        hint = "a column whose name is a reserved word needs double quotes"
        raise ConfigurationError(f"{owner}: `{text}` is no SQL expression: {why}; {hint}")
    statements = answer["statements"]
    node = statements[0]["node"]
    alone = len(statements) == 1 and node["type"] == "SELECT_NODE" and len(node["select_list"]) == 1
    bare = not any(node.get(part) for part in ("where_clause", "group_expressions", "having", "qualify", "sample"))
    source = node.get("from_table", {})
    if not (alone and bare and not node["modifiers"] and source.get("table_name") == _ROWS):
        raise ConfigurationError(f"{owner}: `{text}` is more than one expression; {_ALLOWED}")
    return node["select_list"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for part in tree.values():
            yield from _nodes(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from _nodes(part)


def _allow_function(name: str, text: str, owner: str) -> None:
    kinds = _functions().get(name)
    if kinds is None and name != "count_star":
        return  # unknown, or syntax such as `->>`: binding will tell
    if kinds is None or not kinds & {"scalar", "macro"}:
        raise ConfigurationError(f"{owner}: `{name}` is no scalar function, in `{text}`; {_ALLOWED}")
    if name in _REFUSED.split() or "volatile" in kinds:
        raise ConfigurationError(f"{owner}: `{name}` is not the same for the same row, in `{text}`; {_ALLOWED}")


@cache
def _functions() -> dict[str, set[str]]:
    """Return function name → kinds; `volatile` among them when its value may differ from call to call."""
    known: dict[str, set[str]] = {}
    query = "SELECT lower(function_name), function_type, stability FROM duckdb_functions()"
    with _ENGINE_LOCK:
        rows = _engine().execute(query).fetchall()
    for name, kind, stability in rows:
        known.setdefault(name, set()).add(kind)
        if stability not in (None, "CONSISTENT"):
            known[name].add("volatile")
    return known


def _bound(text: str, schema: Schema, inputs: tuple[str, ...], owner: str) -> Expression:
    import duckdb

    if len({name.lower() for name in inputs}) < len(
        [c for c in schema if c.name.lower() in {n.lower() for n in inputs}]
    ):
        raise ConfigurationError(f"{owner}: columns that differ only in case cannot be used in `{text}`: rename them")
    sql = f"({text}\n)"
    kept = schema.with_columns(column for column in schema if column.name in inputs)
    rows = kept.arrow().empty_table() if inputs else pa.table({"rows": pa.nulls(0)})
    try:
        with _ENGINE_LOCK:
            cursor = _engine().cursor()
        with cursor:
            cursor.register(_ROWS, rows)
            name = str(cursor.execute(f"DESCRIBE SELECT {sql} FROM {_ROWS}").fetchall()[0][1])
            wrapped, known = _stored(sql, name.upper())
            arrow = cursor.sql(f"SELECT {wrapped} FROM {_ROWS}").to_arrow_table().schema.field(0).type
    except duckdb.Error as error:
        known_columns = ", ".join(schema.names) or "none"
        raise ConfigurationError(f"{owner}: `{text}`: {_words(error)}; known columns: {known_columns}") from None
    return Expression(text, wrapped, inputs, known or sql_type(arrow))


def _stored(sql: str, name: str) -> tuple[str, str]:
    """Return SQL whose result Arrow holds without loss, and the SQL type where Arrow's does not tell it."""
    if name.endswith("]") or name.startswith(("STRUCT", "MAP", "UNION", "VARIANT")):
        return f"(to_json({sql})::VARCHAR)", "jsonb"
    known = _AS_TEXT.get(name.split("(")[0].strip('"'))
    if known is not None:
        return f"({sql}::VARCHAR)", known
    if name.startswith(("TIMESTAMP_", "TIME_")):
        return f"({sql}::{name.split('_')[0]})", ""
    return sql, ""


_AS_TEXT = {
    "BIGNUM": "numeric",
    "BIT": "bit varying",
    "ENUM": "text",
    "HUGEINT": "numeric",
    "INTERVAL": "interval",
    "JSON": "jsonb",
    "NULL": "text",
    "TIME WITH TIME ZONE": "timetz",
    "UHUGEINT": "numeric",
    "UUID": "uuid",
}


def _words(error: Exception) -> str:
    """Return the first paragraph of DuckDB's message."""
    return " ".join(str(error).split("\n\n")[0].split())
