"""What dlt does for the peers' line: one table by its pyarrow backend, run by dlt's own environment."""

from __future__ import annotations

import sys


def main() -> None:
    """Copy the table named second within the database named first."""
    import dlt
    import sqlalchemy
    from dlt.sources.sql_database import sql_table

    url, table = sys.argv[1:]
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    rows = sql_table(engine, table=table, schema="public", backend="pyarrow", chunk_size=50_000)
    pipeline = dlt.pipeline("peer", destination=dlt.destinations.postgres(url), dataset_name="raw")
    pipeline.run(rows, write_disposition="append").raise_on_failed_jobs()


if __name__ == "__main__":
    main()
