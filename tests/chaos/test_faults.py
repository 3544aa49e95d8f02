"""A thousand faults chosen by chance: after each case every row is there once, and the ledger says so.

See docs/how-to/faults.md for more of them, and for how to repeat one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from chaos.attempts import Warm
from chaos.campaign import Campaign, Lane
from chaos.cases import BATCH_ROWS, KINDS
from chaos.seeds import seed
from servers import postgres
from servers.plugin import postgres_server
from servers.postgres import Postgres

__all__ = ["postgres_server"]

WANTED = int(os.environ.get("MILLSTREAM_CHAOS_FAULTS") or 1000)
SEED = seed()
CASE = os.environ.get("MILLSTREAM_CHAOS_CASE", "")
AGAIN = 10  # an instant is not repeated by a seed, so a case is played a few times
LANES = 3


def test_no_row_is_lost_or_doubled_and_every_row_is_accounted_for(
    postgres_server: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if CASE:
        with Warm(tmp_path, BATCH_ROWS) as warm:
            _one_case(warm, postgres_server, tmp_path)
        return
    with capsys.disabled():
        print(f"\nMILLSTREAM_TEST_SEED={SEED}", flush=True)
    started = time.monotonic()
    with Warm(tmp_path, BATCH_ROWS) as warm:
        campaign = Campaign(SEED, WANTED, tmp_path, warm, postgres_server)
        campaign.fly(LANES)
    tally = campaign.tally
    with capsys.disabled():
        print(_told(campaign, time.monotonic() - started), flush=True)
    assert not campaign.failures, "\n".join([f"MILLSTREAM_TEST_SEED={SEED}", *campaign.failures])
    assert not campaign.missing, f"nothing has happened at {campaign.missing}"
    assert {kind.split()[0] for kind in tally.faults if not kind.startswith("(")} == {
        k for w in KINDS.values() for k in w
    }


def _told(campaign: Campaign, seconds: float) -> str:
    tally = campaign.tally
    hits = dict(sorted(tally.faults.items()))
    total = sum(count for kind, count in hits.items() if not kind.startswith("("))
    return (
        f"{total} faults hit ({tally.drawn} drawn) in {tally.cases} cases, {tally.attempts} attempts "
        f"({tally.shifted} under a shifted clock, {tally.retries} last runs had to wait), {seconds:.0f} s\n"
        f"{hits}\n{dict(sorted(tally.places.items()))}"
    )


def _one_case(warm: Warm, server: Postgres, folder: Path) -> None:
    if CASE.startswith("crash"):
        with postgres.crashing() as (own, crash), Lane(folder, warm, own, crash) as lane:
            failures = [lane.play(CASE)[1] for _ in range(AGAIN)]
    else:
        with Lane(folder, warm, server) as lane:
            failures = [lane.play(CASE)[1] for _ in range(AGAIN)]
    assert not any(failures), "\n".join(failure for failure in failures if failure)
