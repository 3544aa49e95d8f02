"""The limit of the ndjson line: DuckDB reads typed columns, pgpq encodes them, COPY takes them; nothing is checked."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import duckdb
import pgpq
import psycopg2
import pyarrow as pa
from pgpq import encoders, schema

_COLUMNS = (
    "{id: 'BIGINT', 'at': 'TIMESTAMPTZ', amount: 'DECIMAL(12,2)', name: 'VARCHAR', note: 'VARCHAR', flag: 'BOOLEAN', "
    "customer: 'JSON', items: 'JSON'}"
)


class _Stream(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        head, self._rest = self._rest[:size], self._rest[size:]
        return bytes(head)


def _encoded(batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    encoder = None
    for batch in batches:
        columns = [
            column.cast(pa.timestamp("us", "UTC")) if name == "at" else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        plain = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        if encoder is None:
            made = {
                field.name: encoders.StringEncoderBuilder.new_with_output(field, schema.Jsonb())
                if field.name in ("customer", "items")
                else pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
                for field in plain.schema
            }
            encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(plain.schema, made)
            yield bytes(encoder.write_header())
        yield bytes(encoder.write_batch(plain))
    if encoder is not None:
        yield bytes(encoder.finish())


def main() -> None:
    """Load the file named first into raw.limit_ndjson of the database named second."""
    path, dsn = sys.argv[1:]
    reader = duckdb.connect()
    query = reader.sql(f"SELECT * FROM read_json('{path}', format='newline_delimited', columns={_COLUMNS})")
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        stream = _Stream(_encoded(iter(query.to_arrow_reader(50_000))))
        cursor.copy_expert("COPY raw.limit_ndjson FROM STDIN (FORMAT binary)", stream, size=1 << 20)


if __name__ == "__main__":
    main()
