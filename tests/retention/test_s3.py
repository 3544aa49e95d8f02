"""The whole life of archives in a bucket: archived, dropped, restored, asked, erased, expired; by keys of a Secret."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from millstream_api import Endpoint, RunPlan
from millstream_pipelines.retention.query import query
from millstream_pipelines.retention.request import RetentionRequest
from retention.policies import FLIGHTS, NOW, TABLE, carried_out, months, spec
from servers.plugin import postgres_database, postgres_server, s3_bucket, s3_server
from servers.postgres import Postgres
from servers.s3 import S3

__all__ = ["postgres_database", "postgres_server", "s3_bucket", "s3_server"]

LATER = NOW + timedelta(days=8)


def test_archives_in_a_bucket(postgres_database: Postgres, s3_server: S3, s3_bucket: str) -> None:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 9, 11)
    before = postgres_database.execute("SELECT * FROM raw.flights ORDER BY 1, 2")
    secret = {"accessKeyId": s3_server.access_key, "secretAccessKey": s3_server.secret_key}
    place = {"url": f"s3://{s3_bucket}/dw", "endpoint": s3_server.endpoint, "region": s3_server.region}
    policy = spec(archive=place)

    def done(policy: Any = policy, **options: Any) -> str:
        report = carried_out(postgres_database, policy, options.pop("now", LATER), secret, **options)
        assert report.exit_code == 0, report.message
        assert s3_server.secret_key not in report.model_dump_json()
        return report.message

    assert "2 archived and verified" in done(now=NOW)
    folder = s3_server.folder / s3_bucket / "dw" / TABLE
    assert len(list(folder.rglob("*.parquet"))) == len(list(folder.rglob("_manifest.json"))) == 2
    assert "2 dropped" in done()
    plan = RunPlan(
        action="retain", namespace="default", name="keep", policy=policy,
        warehouse=Endpoint(name="dw", type="postgres", config=postgres_database.config),
    )  # fmt: skip
    asked = query(
        RetentionRequest(plan, {"archive": secret}, "run-1"), TABLE, "2013-10-01", None, "SELECT count(*) FROM archive"
    )
    assert (asked.rows, asked.is_cut) == ([(100,)], False)
    assert "200 rows" in done(restore={"table": TABLE, "from": "2013-09-01", "to": "2013-11-01"})
    assert postgres_database.execute("SELECT * FROM raw.flights ORDER BY 1, 2") == before
    much_later = LATER + timedelta(days=9)
    done(now=much_later)
    assert "dropped" in done(now=much_later + timedelta(days=8))
    erasing = spec(archive=place, delete=[{"table": TABLE, "where": "id = 7", "reason": "r"}])
    assert "1 erasures" in done(erasing, now=much_later + timedelta(days=8))
    expiring = spec(keep={}, archive=place | {"keep": {"age": "1 month"}})
    assert "archives expired" in done(expiring, now=much_later + timedelta(days=8))
    left = {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}
    assert left == {"from=2013-11-01T04-00-00Z"}, "which is younger"


def test_a_dry_run_asks_for_the_archive_and_plans_without_it(
    postgres_database: Postgres, s3_server: S3, s3_bucket: str
) -> None:
    """A policy whose archive is wrong says so when it is applied, not in its first night."""
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 9, 9)
    secret = {"accessKeyId": s3_server.access_key, "secretAccessKey": s3_server.secret_key}
    place = {"url": f"s3://{s3_bucket}/dw", "endpoint": s3_server.endpoint, "region": s3_server.region}
    wrong = carried_out(
        postgres_database, spec(archive=place | {"url": "s3://no-such-bucket/dw"}), NOW, secret, dryRun=True
    )
    assert (wrong.exit_code, wrong.reason) == (78, "InvalidConfiguration"), wrong.message
    assert "archive: the bucket of url 's3://no-such-bucket/dw' does not exist; check url and endpoint" in wrong.message
    assert wrong.retention is not None
    assert {step.step for step in wrong.retention.plan} >= {"create", "detach"}
    assert [table.outcome for table in wrong.retention.tables] == ["done"]
    right = carried_out(postgres_database, spec(archive=place), NOW, secret, dryRun=True)
    assert (right.exit_code, list((s3_server.folder / s3_bucket).rglob("*"))) == (0, []), right.message


def test_a_wrong_key_is_named(postgres_database: Postgres, s3_server: S3, s3_bucket: str) -> None:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 9, 9)
    policy = spec(archive={"url": f"s3://{s3_bucket}/dw", "endpoint": s3_server.endpoint, "region": s3_server.region})
    secret = {"accessKeyId": s3_server.access_key, "secretAccessKey": "wrong-key"}
    report = carried_out(postgres_database, policy, NOW, secret)
    assert (report.exit_code, report.reason) == (78, "AccessDenied"), report.message
    assert "access to file 'raw.flights/from=2013-09-01T04-00-00Z/" in report.message
    assert "check the Secret's keys accessKeyId" in report.message.replace("'accessKeyId'", "accessKeyId")
    assert "wrong-key" not in report.message
    assert postgres_database.execute("SELECT count(*) FROM raw.flights_p20130901") == [(100,)]
