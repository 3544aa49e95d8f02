"""The limit of the parquet line: ADBC reads, pyarrow writes what comes; uuid and numeric arrive as bytes and text."""

from __future__ import annotations

import sys

import pyarrow.parquet as pq
from adbc_driver_postgresql import dbapi


def main() -> None:
    """Write the table named second, of the database named first, into the file named third."""
    dsn, table, path = sys.argv[1:]
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(path, reader.schema, compression="zstd", compression_level=3) as writer:
            for batch in reader:
                writer.write_batch(batch)


if __name__ == "__main__":
    main()
