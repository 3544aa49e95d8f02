"""The `_millstream` schema in the file: state, ledger, quarantine, runs; migrated by version."""

from __future__ import annotations

import duckdb

from millstream_pipelines.failpoints import reached
from millstream_pipelines.warehouses._duckdb.connection import rows, translating

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE _millstream.state (
            pipeline VARCHAR NOT NULL, stream VARCHAR NOT NULL,
            epoch BIGINT NOT NULL DEFAULT 0, holder VARCHAR, run VARCHAR, refresh_run VARCHAR,
            renewed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            seq BIGINT NOT NULL DEFAULT 0, position JSON,
            PRIMARY KEY (pipeline, stream))
        """,
        """
        CREATE TABLE _millstream.ledger (
            pipeline VARCHAR NOT NULL, stream VARCHAR NOT NULL, seq BIGINT NOT NULL,
            run VARCHAR NOT NULL, epoch BIGINT NOT NULL, committed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            target VARCHAR NOT NULL, read BIGINT NOT NULL, loaded BIGINT NOT NULL, quarantined BIGINT NOT NULL,
            duplicate BIGINT NOT NULL, filtered BIGINT NOT NULL, bytes BIGINT NOT NULL,
            content_hash VARCHAR NOT NULL, position JSON,
            PRIMARY KEY (pipeline, stream, seq),
            CHECK (read = loaded + quarantined + duplicate + filtered))
        """,
        "CREATE SEQUENCE _millstream.quarantine_id",
        """
        CREATE TABLE _millstream.quarantine (
            id BIGINT NOT NULL DEFAULT nextval('_millstream.quarantine_id'),
            pipeline VARCHAR NOT NULL, stream VARCHAR NOT NULL, target VARCHAR NOT NULL, run VARCHAR NOT NULL,
            seq BIGINT NOT NULL, rule VARCHAR NOT NULL, message VARCHAR NOT NULL, "row" JSON NOT NULL,
            status VARCHAR NOT NULL DEFAULT 'open', created_at TIMESTAMPTZ NOT NULL DEFAULT now())
        """,
        """
        CREATE TABLE _millstream.runs (
            run VARCHAR NOT NULL, attempt INTEGER NOT NULL, pipeline VARCHAR NOT NULL,
            started_at TIMESTAMPTZ NOT NULL, finished_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            outcome VARCHAR NOT NULL, exit_code INTEGER NOT NULL, report JSON NOT NULL,
            PRIMARY KEY (run, attempt))
        """,
        """
        CREATE TABLE _millstream.checks (
            run VARCHAR NOT NULL, pipeline VARCHAR NOT NULL, target VARCHAR NOT NULL, name VARCHAR NOT NULL,
            severity VARCHAR NOT NULL, outcome VARCHAR NOT NULL, failed_rows BIGINT NOT NULL,
            message VARCHAR NOT NULL, checked_at TIMESTAMPTZ NOT NULL DEFAULT now())
        """,
    ),
    (
        """
        CREATE VIEW _millstream.accounting AS
        SELECT pipeline, stream, run, max(target) AS target, count(*) AS chunks,
               min(seq) AS first_seq, max(seq) AS last_seq,
               sum(read)::bigint AS read, sum(loaded)::bigint AS loaded, sum(quarantined)::bigint AS quarantined,
               sum(duplicate)::bigint AS duplicate, sum(filtered)::bigint AS filtered, sum(bytes)::bigint AS bytes,
               sum(read - loaded - quarantined - duplicate - filtered)::bigint AS gap,
               min(committed_at) AS first_commit, max(committed_at) AS last_commit
        FROM _millstream.ledger GROUP BY pipeline, stream, run
        """,
    ),
    (
        """
        CREATE TABLE _millstream.intervals (
            pipeline VARCHAR NOT NULL, stream VARCHAR NOT NULL, run VARCHAR NOT NULL, "window" VARCHAR NOT NULL,
            range_start VARCHAR NOT NULL, range_end VARCHAR NOT NULL, seq BIGINT NOT NULL,
            read BIGINT NOT NULL, loaded BIGINT NOT NULL, quarantined BIGINT NOT NULL,
            duplicate BIGINT NOT NULL, filtered BIGINT NOT NULL, deleted BIGINT NOT NULL,
            done_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            PRIMARY KEY (pipeline, stream, run, "window", range_start, range_end))
        """,
    ),
    (
        "ALTER TABLE _millstream.quarantine ADD COLUMN form VARCHAR",
        "ALTER TABLE _millstream.quarantine ADD COLUMN masked JSON",
        "ALTER TABLE _millstream.quarantine ADD COLUMN attempts INTEGER DEFAULT 0",
        "ALTER TABLE _millstream.quarantine ADD COLUMN replay_run VARCHAR",
        "ALTER TABLE _millstream.quarantine ADD COLUMN closed_at TIMESTAMPTZ",
        "ALTER TABLE _millstream.quarantine ADD COLUMN closed_by VARCHAR",
        "ALTER TABLE _millstream.quarantine ADD COLUMN reason VARCHAR",
        "ALTER TABLE _millstream.ledger ADD COLUMN origin VARCHAR DEFAULT 'source'",
        """
        CREATE OR REPLACE VIEW _millstream.accounting AS
        SELECT pipeline, stream, run, max(target) AS target, count(*) AS chunks,
               min(seq) AS first_seq, max(seq) AS last_seq,
               sum(read)::bigint AS read, sum(loaded)::bigint AS loaded, sum(quarantined)::bigint AS quarantined,
               sum(duplicate)::bigint AS duplicate, sum(filtered)::bigint AS filtered, sum(bytes)::bigint AS bytes,
               sum(read - loaded - quarantined - duplicate - filtered)::bigint AS gap,
               min(committed_at) AS first_commit, max(committed_at) AS last_commit,
               max(origin) AS origin
        FROM _millstream.ledger GROUP BY pipeline, stream, run
        """,
    ),
)
VERSION = len(_MIGRATIONS)


def migrate(connection: duckdb.DuckDBPyConnection, owner: str) -> int:
    """Bring `_millstream` to this version and return it. A newer one, made by a newer runner, is left as it is."""
    with translating(owner, "preparing the schema _millstream"):
        connection.execute("BEGIN")
        try:
            connection.execute("CREATE SCHEMA IF NOT EXISTS _millstream")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS _millstream.version "
                "(version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())"
            )
            version = int(rows(connection, "SELECT coalesce(max(version), 0) FROM _millstream.version")[0][0])
            for number in range(version + 1, VERSION + 1):
                for statement in _MIGRATIONS[number - 1]:
                    connection.execute(statement)
                connection.execute("INSERT INTO _millstream.version (version) VALUES (?)", [number])
            reached("migrated")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    return max(version, VERSION)
