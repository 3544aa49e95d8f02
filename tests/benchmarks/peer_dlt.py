"""What dlt does for the peers' lines, run by dlt's own environment: a table by its pyarrow backend, or a csv file."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Load what is named third into the database named first, as the line named second asks for."""
    import dlt

    url, work, origin, step = sys.argv[1:]
    if work == "csv":
        from dlt.sources.filesystem import filesystem, read_csv_duckdb

        path = Path(origin)
        files = filesystem(bucket_url=path.parent.as_uri(), file_glob=path.name)
        rows = (files | read_csv_duckdb(chunk_size=50_000, use_pyarrow=True)).with_name("dlt_csv")
    else:
        import sqlalchemy
        from dlt.sources.sql_database import sql_table

        engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
        rows = sql_table(engine, table=origin, schema="public", backend="pyarrow", chunk_size=50_000)
        rows = rows.with_name(f"dlt_{work}")
    merging = work == "merge" and step == "last"
    rows.apply_hints(primary_key="id" if work == "merge" else None, table_name=f"dlt_{work}")
    pipeline = dlt.pipeline(f"peer_{work}", destination=dlt.destinations.postgres(url), dataset_name="raw")
    pipeline.run(rows, write_disposition="merge" if merging else "append").raise_on_failed_jobs()


if __name__ == "__main__":
    main()
