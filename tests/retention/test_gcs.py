"""The whole life of archives in Google Cloud Storage: archived, dropped, restored, asked, erased, expired."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from millstream_api import Endpoint, RunPlan
from millstream_api.retentionpolicy import Archive
from millstream_pipelines.retention.query import query
from millstream_pipelines.retention.request import RetentionRequest
from millstream_pipelines.retention.store import ArchiveStore
from retention.policies import FLIGHTS, NOW, TABLE, carried_out, months, spec
from servers.gcs import GCS
from servers.plugin import gcs_bucket, gcs_server, postgres_database, postgres_server
from servers.postgres import Postgres

__all__ = ["gcs_bucket", "gcs_server", "postgres_database", "postgres_server"]

LATER = NOW + timedelta(days=8)


@pytest.mark.parametrize("identity", [False, True], ids=["service account", "workload identity"])
def test_archives_in_a_bucket(
    identity: bool, postgres_database: Postgres, gcs_server: GCS, gcs_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", gcs_server.metadata_host)
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 9, 11)
    before = postgres_database.execute("SELECT * FROM raw.flights ORDER BY 1, 2")
    secret = {} if identity else {"serviceAccountKey": gcs_server.service_account}
    place = {"url": f"gs://{gcs_bucket}/dw", "endpoint": gcs_server.endpoint}
    policy = spec(archive=place)
    store = ArchiveStore(Archive.model_validate(place), secret, "test")

    def done(policy: Any = policy, **options: Any) -> str:
        report = carried_out(postgres_database, policy, options.pop("now", LATER), secret, **options)
        assert report.exit_code == 0, report.message
        assert "PRIVATE KEY" not in report.model_dump_json()
        return report.message

    assert "2 archived and verified" in done(now=NOW)
    kept = store.keys(TABLE)
    assert sum(key.endswith(".parquet") for key in kept) == sum(key.endswith("_manifest.json") for key in kept) == 2
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
    assert sum(key.endswith("_manifest.json") for key in store.keys(TABLE)) == 3
    expiring = spec(keep={}, archive=place | {"keep": {"age": "1 month"}})
    assert "archives expired" in done(expiring, now=much_later + timedelta(days=8))
    left = {key.split("/")[1] for key in store.keys(TABLE)}
    assert left == {"from=2013-11-01T04-00-00Z"}, "which is younger"


def test_an_object_that_is_gone_or_another_stops_the_drop(
    postgres_database: Postgres, gcs_server: GCS, gcs_bucket: str
) -> None:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 9, 10)
    place = {"url": f"gs://{gcs_bucket}/dw", "endpoint": gcs_server.endpoint}
    secret = {"serviceAccountKey": gcs_server.service_account}
    policy, store = spec(archive=place), ArchiveStore(Archive.model_validate(place), secret, "test")
    assert carried_out(postgres_database, policy, NOW, secret).exit_code == 0
    store.delete([next(key for key in store.keys(TABLE) if key.endswith(".parquet"))])
    report = carried_out(postgres_database, policy, LATER, secret)
    assert (report.exit_code, report.reason, "is gone" in report.message) == (65, "ArchiveMismatch", True)
    assert postgres_database.execute("SELECT count(*) FROM raw.flights_p20130901") == [(100,)]
    assert "1 dropped" in carried_out(postgres_database, policy, LATER, secret).message, "it was archived anew"


def test_the_key_of_another_account_is_named(postgres_database: Postgres, gcs_server: GCS, gcs_bucket: str) -> None:
    postgres_database.execute(FLIGHTS)
    months(postgres_database, 9, 9)
    policy = spec(archive={"url": f"gs://{gcs_bucket}/dw", "endpoint": gcs_server.endpoint})
    report = carried_out(postgres_database, policy, NOW, {"serviceAccountKey": gcs_server.other_account})
    assert (report.exit_code, report.reason) == (78, "AccessDenied"), report.message
    assert "serviceAccountKey" in report.message
    assert "PRIVATE KEY" not in report.message
    assert postgres_database.execute("SELECT count(*) FROM raw.flights_p20130901") == [(100,)]
