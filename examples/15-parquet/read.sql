-- DuckDB: the files of the table as its log has them. A glob over `data` would also find files that were never committed.
SET VARIABLE files = (
  WITH log AS (
    FROM read_json('lake/raw/orders/_commits/*.json',
      columns = {number: 'BIGINT', replaces: 'BOOLEAN', added: 'STRUCT(key VARCHAR)[]'})),
  added AS (SELECT number, unnest(added).key AS key FROM log)
  SELECT list('lake/raw/orders/' || key ORDER BY number, key) FROM added
  WHERE number >= (SELECT coalesce(max(number) FILTER (replaces), 0) FROM log));

SELECT * FROM read_parquet(getvariable('files'), union_by_name = true) ORDER BY id;
