"""Random histories, delivered in random order and batches, against the model. A failing seed is printed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from history_model import Change, Model
from millstream_pipelines.testing.warehouse_case import totals
from millstream_pipelines.testing.warehouse_history import PRICES, HistoryCase, day


def histories(chance: random.Random) -> list[Change]:
    """Return changes of a few keys over a month, some of them at one moment, some told twice."""
    changes = [(chance.randrange(4), chance.randint(1, 28), chance.choice("abc")) for _ in range(chance.randint(1, 40))]
    return changes + chance.choices(changes, k=len(changes) // 3)


class RandomHistories(HistoryCase):
    """The property: versions are a function of the changes as delivered."""

    @pytest.mark.parametrize("seed", range(12))
    def test_versions_are_those_of_the_model(self, seed: int) -> None:
        chance = random.Random(seed)
        changes: list[Any] = histories(chance)
        chance.shuffle(changes)
        model = Model()
        load = self.open().load(self.keeping())
        while changes:
            size = chance.choice([1, 2, 5, 13])
            chunk, changes = changes[:size], changes[size:]
            model.take(chunk)
            read, loaded, _, duplicate, _ = totals(
                self.loaded(load, *((key, state, day(at)) for key, at, state in chunk), schema=PRICES)
            )
            assert read == loaded + duplicate
            assert self.versions() == model.versions()

    @pytest.mark.parametrize("seed", range(6))
    def test_the_order_of_delivery_is_no_matter(self, seed: int) -> None:
        chance = random.Random(1000 + seed)
        changes = list({(key, at): (key, at, state) for key, at, state in histories(chance)}.values())
        model = Model()
        model.take(changes)
        chance.shuffle(changes)
        load = self.open().load(self.keeping())
        for start in range(0, len(changes), 3):
            rows = [(key, state, day(at)) for key, at, state in changes[start : start + 3]]
            self.loaded(load, *rows, schema=PRICES)
        assert self.versions() == model.versions()
