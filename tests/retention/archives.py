"""Tables and stores for the tests of retention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millstream_api.retentionpolicy import Archive
from millstream_pipelines.retention.archive import ToArchive
from millstream_pipelines.retention.store import ArchiveStore
from millstream_pipelines.warehouses._postgres.connection import PostgresConfig
from servers.postgres import Postgres

OWNER = "RetentionPolicy 'keep'"

EVERY_TYPE = """
CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE SCHEMA raw; CREATE DOMAIN raw.small AS int CHECK (VALUE < 10);
CREATE TABLE raw.every (
  at timestamptz NOT NULL, id bigint, small smallint, whole int, yes bool, f4 real, f8 double precision,
  price numeric(12,2), any_number numeric, big numeric(60,10), t text, v varchar(20), c char(6), b bytea, u uuid,
  d date, ts timestamp, clock time, span interval, j json, jb jsonb, ints int[], texts text[], m mood, r int8range,
  ip inet, "odd ""name" text, dom raw.small, twice bigint GENERATED ALWAYS AS (id / 2) STORED)
"""
ROWS = r"""
INSERT INTO raw.every (at, id, small, whole, yes, f4, f8, price, any_number, big, t, v, c, b, u, d, ts, clock, span, j,
  jb, ints, texts, m, r, ip, "odd ""name", dom) VALUES
('2013-01-01 05:00+00', 1, 1, 1, true, 1.5, 0.1, 12.30, 1.000, 1e40, '', 'é', 'ab', '\x00ff', gen_random_uuid(),
 '2013-01-01', '2013-01-01 00:00:00.000001', '24:00', '1 mon 2 days', '{"a": 1}', '{"b": [1, null]}', '{1,NULL}',
 '{"x,y",""}', 'sad', '[1,5)', '10.0.0.1', 'ünï', 5),
('2013-01-31 23:59:59.999999+00', -9223372036854775808, -32768, NULL, false, 'NaN', '-Infinity', -0.01,
 123456789012345678901234567890.5, 0, E'line\nbreak\t"', 'x', '', '', NULL, 'infinity', '-infinity', '00:00', '-1 sec',
 NULL, NULL, '{}', NULL, 'glad', 'empty', '::1', NULL, NULL),
('2013-01-02', 9223372036854775807, 32767, 2147483647, NULL, 1e-30, 5e-324, NULL, 'NaN', NULL, NULL, NULL, NULL, NULL,
 '00000000-0000-0000-0000-000000000000', '4713-01-01 BC', '0044-03-15 BC', NULL, NULL, 'null', '"\u00e9"',
 '{{1,2},{3,4}}', '{NULL,"null"}', NULL, '(,)', NULL, '', NULL),
('infinity', 0, 0, 0, true, -0.0, 1e300, 99.99, 0, 1.5, repeat('long ', 5000), NULL, 'abcdef',
 decode(repeat('ab', 3000), 'hex'), NULL, '5874897-12-31', '294276-12-31 23:59:59', '12:34:56.789', '1 year', '[]',
 '{}', NULL, '{}', 'sad', NULL, '10.0.0.0/8', 'z', 9)
"""


def config_of(database: Postgres) -> PostgresConfig:
    """Return the warehouse's configuration for a test's database."""
    return PostgresConfig.model_validate(database.config)


def folder_store(folder: Path) -> ArchiveStore:
    """Return a store in a folder."""
    return ArchiveStore(Archive(url=f"file://{folder}"), {}, OWNER)


def whole(table: str, **more: Any) -> ToArchive:
    """Return a table as a range without ends."""
    given = {"oid": 1, "column": "at", "kind": "timestamptz", "low": None, "high": None, "time_zone": "Etc/UTC"}
    return ToArchive(**({"table": table, "partition": table} | given | more))
