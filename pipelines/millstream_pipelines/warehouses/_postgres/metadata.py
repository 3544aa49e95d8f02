"""The `_millstream` schema in the warehouse: state, ledger, quarantine, runs; migrated by version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.extensions import connection as Connection

from millstream_pipelines.failpoints import reached
from millstream_pipelines.warehouses._postgres.connection import one, run, translating
from millstream_pipelines.warehouses._postgres.history_guard import HISTORY_GUARD

_MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE _millstream.state (
        pipeline text NOT NULL, stream text NOT NULL,
        epoch bigint NOT NULL DEFAULT 0, holder text, run text, refresh_run text,
        renewed_at timestamptz NOT NULL DEFAULT now(),
        seq bigint NOT NULL DEFAULT 0, position jsonb,
        PRIMARY KEY (pipeline, stream));
    CREATE TABLE _millstream.ledger (
        pipeline text NOT NULL, stream text NOT NULL, seq bigint NOT NULL,
        run text NOT NULL, epoch bigint NOT NULL, committed_at timestamptz NOT NULL DEFAULT now(), target text NOT NULL,
        read bigint NOT NULL, loaded bigint NOT NULL, quarantined bigint NOT NULL,
        duplicate bigint NOT NULL, filtered bigint NOT NULL, bytes bigint NOT NULL,
        content_hash text NOT NULL, position jsonb,
        PRIMARY KEY (pipeline, stream, seq),
        CONSTRAINT every_row_accounted CHECK (read = loaded + quarantined + duplicate + filtered));
    CREATE INDEX ledger_run ON _millstream.ledger (run);
    CREATE TABLE _millstream.quarantine (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        pipeline text NOT NULL, stream text NOT NULL, target text NOT NULL, run text NOT NULL, seq bigint NOT NULL,
        rule text NOT NULL, message text NOT NULL, "row" jsonb NOT NULL,
        status text NOT NULL DEFAULT 'open', created_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX quarantine_stream ON _millstream.quarantine (pipeline, stream, status);
    CREATE TABLE _millstream.runs (
        run text NOT NULL, attempt int NOT NULL, pipeline text NOT NULL,
        started_at timestamptz NOT NULL, finished_at timestamptz NOT NULL DEFAULT now(),
        outcome text NOT NULL, exit_code int NOT NULL, report jsonb NOT NULL,
        PRIMARY KEY (run, attempt));
    CREATE TABLE _millstream.checks (
        run text NOT NULL, pipeline text NOT NULL, target text NOT NULL, name text NOT NULL, severity text NOT NULL,
        outcome text NOT NULL, failed_rows bigint NOT NULL, message text NOT NULL,
        checked_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX checks_run ON _millstream.checks (run);
    """,
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
    """
    ALTER TABLE _millstream.ledger ADD COLUMN IF NOT EXISTS deleted bigint NOT NULL DEFAULT 0;
    ALTER TABLE _millstream.state ADD COLUMN IF NOT EXISTS reconciled_at timestamptz;
    """,
    HISTORY_GUARD,
    """
    CREATE TABLE _millstream.intervals (
        pipeline text NOT NULL, stream text NOT NULL, run text NOT NULL, "window" text NOT NULL,
        range_start text NOT NULL, range_end text NOT NULL, seq bigint NOT NULL,
        read bigint NOT NULL, loaded bigint NOT NULL, quarantined bigint NOT NULL,
        duplicate bigint NOT NULL, filtered bigint NOT NULL, deleted bigint NOT NULL,
        done_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, stream, run, "window", range_start, range_end));
    """,
    """
    CREATE TABLE _millstream.shard_runs (
        pipeline text NOT NULL, run text NOT NULL, shards int NOT NULL, seen_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz, dropped_at timestamptz,
        PRIMARY KEY (pipeline, run));
    CREATE TABLE _millstream.shard_plans (
        pipeline text NOT NULL, stream text NOT NULL, run text NOT NULL, plan jsonb NOT NULL,
        PRIMARY KEY (pipeline, stream, run));
    CREATE TABLE _millstream.shards (
        pipeline text NOT NULL, stream text NOT NULL, run text NOT NULL, shard int NOT NULL, stage text NOT NULL,
        columns jsonb NOT NULL, read bigint NOT NULL, loaded bigint NOT NULL, quarantined bigint NOT NULL,
        duplicate bigint NOT NULL, filtered bigint NOT NULL, bytes bigint NOT NULL, content_hash text NOT NULL,
        found jsonb NOT NULL, staged_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, stream, run, shard));
    CREATE TABLE _millstream.shard_rejects (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        pipeline text NOT NULL, stream text NOT NULL, target text NOT NULL, run text NOT NULL, seq bigint NOT NULL,
        rule text NOT NULL, message text NOT NULL, "row" jsonb NOT NULL, status text NOT NULL);
    """,
    """
    ALTER TABLE _millstream.quarantine ADD COLUMN form text, ADD COLUMN masked jsonb,
        ADD COLUMN attempts int NOT NULL DEFAULT 0, ADD COLUMN replay_run text,
        ADD COLUMN closed_at timestamptz, ADD COLUMN closed_by text, ADD COLUMN reason text;
    ALTER TABLE _millstream.shard_rejects ADD COLUMN form text, ADD COLUMN masked jsonb;
    ALTER TABLE _millstream.ledger ADD COLUMN origin text NOT NULL DEFAULT 'source';
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
    """
    CREATE TABLE _millstream.retired (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        policy text NOT NULL, table_name text NOT NULL, partition text NOT NULL, oid bigint NOT NULL,
        column_name text NOT NULL, kind text NOT NULL, low text, high text, time_zone text NOT NULL,
        state text NOT NULL, why text NOT NULL DEFAULT '', rows bigint, bytes bigint NOT NULL DEFAULT 0,
        fingerprint text, manifest text, archive_url text, archive_bytes bigint, content_hash text,
        noted_at timestamptz NOT NULL DEFAULT now(), detached_at timestamptz, archived_at timestamptz,
        verified_at timestamptz, dropped_at timestamptz, expired_at timestamptz, restored_at timestamptz);
    CREATE UNIQUE INDEX ON _millstream.retired (table_name, low, high) NULLS NOT DISTINCT WHERE state <> 'restored';
    CREATE TABLE _millstream.erasures (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        policy text NOT NULL, table_name text NOT NULL, condition text NOT NULL, reason text NOT NULL,
        live_rows bigint NOT NULL DEFAULT 0, quarantined_rows bigint NOT NULL DEFAULT 0,
        archived_rows bigint NOT NULL DEFAULT 0, archives jsonb NOT NULL DEFAULT '[]',
        begun_at timestamptz NOT NULL DEFAULT now(), done_at timestamptz,
        UNIQUE (policy, table_name, condition, reason));
    """,
    """
    CREATE TABLE _millstream.partitioned (
        table_name text PRIMARY KEY, column_name text NOT NULL, kind text NOT NULL, "interval" text NOT NULL,
        time_zone text NOT NULL, premake int NOT NULL, seen_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE _millstream.conversions (
        table_name text PRIMARY KEY, old_name text NOT NULL, state text NOT NULL, position jsonb,
        copied bigint NOT NULL DEFAULT 0, verified bigint, note text NOT NULL DEFAULT '',
        started_at timestamptz NOT NULL DEFAULT now(), switched_at timestamptz);
    """,
    """
    ALTER TABLE _millstream.erasures ADD COLUMN detached_rows bigint NOT NULL DEFAULT 0,
        ADD COLUMN unjudged jsonb NOT NULL DEFAULT '[]';
    CREATE TABLE _millstream.retention_claims (
        table_name text PRIMARY KEY, policy text NOT NULL, claimed_at timestamptz NOT NULL DEFAULT now());
    """,
    # A range whose rows were dropped may be made again, for late rows, and leave a second time.
    """
    DROP INDEX _millstream.retired_table_name_low_high_idx;
    CREATE UNIQUE INDEX retired_here ON _millstream.retired (table_name, low, high) NULLS NOT DISTINCT
      WHERE state IN ('retiring', 'detached', 'archived');
    ALTER TABLE _millstream.retired ADD COLUMN attempts text[] NOT NULL DEFAULT '{}';
    UPDATE _millstream.retired SET attempts = ARRAY[regexp_replace(manifest, '/[^/]*$', '')]
      WHERE manifest IS NOT NULL AND state <> 'expired';
    """,
    # Who began a conversion may never come back.
    """
    ALTER TABLE _millstream.conversions ADD COLUMN touched_at timestamptz NOT NULL DEFAULT now();
    """,
    # What a table was like when its copy was begun, since people alter it meanwhile.
    """
    ALTER TABLE _millstream.conversions ADD COLUMN shape text, ADD COLUMN node bigint;
    """,
    # Whose archives are whose, where several warehouses share a url. An older runner, which takes a missing fingerprint
    # for nothing to compare, must fail instead.
    """
    CREATE TABLE _millstream.warehouse (
        id uuid NOT NULL DEFAULT gen_random_uuid(), the_only boolean PRIMARY KEY DEFAULT true CHECK (the_only));
    INSERT INTO _millstream.warehouse DEFAULT VALUES;
    ALTER TABLE _millstream.retired DROP COLUMN fingerprint;
    """,
    """
    CREATE TABLE _millstream.tags (
        pipeline text, stream text, table_name text, tag text, PRIMARY KEY (pipeline, stream, table_name, tag));
    """,
    # Foreign keys that its partitions have, each for itself, until all of them are validated.
    """
    ALTER TABLE _millstream.conversions ADD COLUMN keys jsonb;
    """,
    # As which table a range came back. In a copy of the database tables have other numbers, and so has this one.
    """
    ALTER TABLE _millstream.retired ADD COLUMN back_as bigint[];
    """,
    # What a person has approved outlives the run that began with it, and covers no erasure of rows that come later.
    """
    CREATE TABLE _millstream.approvals (
        policy text PRIMARY KEY, digest text NOT NULL, steps jsonb NOT NULL,
        noted_at timestamptz NOT NULL DEFAULT now());
    ALTER TABLE _millstream.erasures ADD COLUMN times int NOT NULL DEFAULT 0,
        ADD COLUMN under_way boolean NOT NULL DEFAULT false;
    UPDATE _millstream.erasures SET times = (done_at IS NOT NULL)::int, under_way = done_at IS NULL;
    """,
)
VERSION = len(_MIGRATIONS)
_LOCK = 0x6D696C6C  # "mill": one migration at a time, whoever starts it


def migrate(connection: Connection, owner: str) -> int:
    """Bring `_millstream` to this version and return it. A newer one, made by a newer runner, is left as it is."""
    with translating(owner, "preparing the schema _millstream"):
        version = _version(connection)
        if version < VERSION:
            with _alone(connection):
                version = _version(connection)
                if version == 0:
                    if one(connection, "SELECT to_regnamespace('_millstream')")[0] is None:  # else no right is needed
                        run(connection, "CREATE SCHEMA IF NOT EXISTS _millstream")
                    run(
                        connection,
                        "CREATE TABLE IF NOT EXISTS _millstream.version "
                        "(version int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
                    )
                for number in range(version + 1, VERSION + 1):
                    run(connection, _MIGRATIONS[number - 1])
                    run(connection, "INSERT INTO _millstream.version (version) VALUES (%s)", (number,))
                    version = number
                reached("migrated")
                connection.commit()
        connection.commit()
    return version


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Keep other migrations out.

    A lock of the session, not of the transaction: names are looked up in a cache that is brought up to date where a
    transaction begins, so what another made meanwhile is seen by the next transaction, not by the one that waited.
    """
    run(connection, "SELECT pg_advisory_lock(%s)", (_LOCK,))
    connection.commit()
    try:
        yield
    finally:
        if not connection.closed:
            connection.rollback()
            run(connection, "SELECT pg_advisory_unlock(%s)", (_LOCK,))
            connection.commit()


def _version(connection: Connection) -> int:
    if one(connection, "SELECT to_regclass('_millstream.version')")[0] is None:
        return 0
    return int(one(connection, "SELECT coalesce(max(version), 0) FROM _millstream.version")[0])
