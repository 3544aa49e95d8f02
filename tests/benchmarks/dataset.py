"""The rows that are moved: made in SQL on the server, the same at every run, and compared by content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Column → type and how row number n has it. `note` is empty in one row of a hundred, which is not the same as NULL.
COLUMNS: Mapping[str, tuple[str, str]] = {
    "id": ("bigint", "n::bigint"),
    "token": ("uuid", "md5(n::text)::uuid"),
    "created_at": ("timestamptz", "timestamptz '2024-01-01Z' + n * interval '1 second'"),
    "updated_at": ("timestamptz", "timestamptz '2024-01-01Z' + n * interval '1.25 second'"),
    "amount": ("numeric(12,2)", "(n * 7919 % 10000000 / 100.0)::numeric(12,2)"),
    "quantity": ("integer", "(n * 31 % 1000003)::int"),
    "small": ("smallint", "(n % 32000)::smallint"),
    "flag": ("boolean", "n % 7 = 0"),
    "status": ("text", "(ARRAY['new', 'paid', 'packed', 'sent', 'closed'])[1 + n % 5]"),
    "label": ("text", "'Zürich → 東京, Straße № ' || lpad((n * 15485863 % 10000000000)::text, 18, '0')"),
    "document": (
        "jsonb",
        """jsonb_build_object('n', n, 'price', round(n % 1000 / 8.0, 3), 'tags', jsonb_build_array('red', n % 10, NULL),
        'place', jsonb_build_object('city', 'Zürich', 'zip', n % 100000), 'text', repeat('x', 20))""",
    ),
    "note": (
        "text",
        "CASE WHEN n % 5 = 0 THEN NULL WHEN n % 100 = 1 THEN '' ELSE 'note ' || n * 13 % 100000 END",
    ),
}
TYPES: Mapping[str, str] = {name: kind for name, (kind, _) in COLUMNS.items()}

CHECKS: list[dict[str, object]] = [
    {"type": "not_null", "columns": ["id", "token"]},
    {"type": "range", "column": "amount", "min": 0, "max": 100000},
    {"type": "range", "column": "quantity", "min": 0},
    {"type": "range", "column": "created_at", "min": "2024-01-01", "max": "2100-01-01"},
    {"type": "accepted_values", "column": "status", "values": ["new", "paid", "packed", "sent", "closed"]},
    {"type": "regex", "column": "label", "pattern": "[0-9]{18}$", "partial": True},
    {"type": "length", "column": "label", "min": 40, "max": 40},
    {"type": "expression", "sql": "updated_at >= created_at"},
]
# One row in a thousand breaks one of the rules, each its own eighth of them.
_BROKEN = (
    ("token", "NULL"),
    ("amount", "-0.01"),
    ("quantity", "-1"),
    ("created_at", "timestamptz '1999-12-31Z'"),
    ("status", "'lost'"),
    ("label", "left(label, 39) || 'x'"),
    ("label", "right(label, 30)"),
    ("updated_at", "created_at - interval '1 day'"),
)
BAD_EVERY = 1000


def source(table: str, rows: int, first: int = 1) -> str:
    """Return the statement that makes a table of rows `first` to `first + rows - 1`."""
    values = ", ".join(f"{value} AS {name}" for name, (_, value) in COLUMNS.items())
    return f"CREATE TABLE {table} AS SELECT {values} FROM generate_series({first}::bigint, {first + rows - 1}) n"


def dirty(table: str, origin: str) -> str:
    """Return the statements that make a copy in which one row in BAD_EVERY breaks a rule."""
    broken: dict[str, str] = {}
    for number, (name, value) in enumerate(_BROKEN):
        broken[name] = f"{broken.get(name, '')} WHEN id % {8 * BAD_EVERY} = {number * BAD_EVERY} THEN {value}"
    values = (f"CASE{broken[name]} ELSE {name} END AS {name}" if name in broken else name for name in COLUMNS)
    return f"CREATE TABLE {table} (LIKE {origin}); INSERT INTO {table} SELECT {', '.join(values)} FROM {origin}"


@dataclass(frozen=True)
class Content:
    """Rows to be compared, whatever their order: `columns` are names, or SQL that stands for a column."""

    table: str
    columns: Sequence[str] = tuple(COLUMNS)
    where: str = "true"

    def query(self, columns: Sequence[str] = ()) -> str:
        """Return the query of count and content; every column is in the hash."""
        row = f"ROW({', '.join(columns or self.columns)})::text"
        hashed = f"coalesce(sum(hashtextextended({row}, 0)::numeric), 0)"
        return f"SELECT count(*), {hashed} FROM {self.table} WHERE {self.where}"
