"""Clients that write, change, take out and read rows of a table all the time, whatever a policy does with it."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2

from servers.postgres import Postgres

CLIENTS = 3
_WRITE = """
WITH new AS (SELECT moved.now() + random() * %(reach)s::interval AS at, nextval('public.ids') AS id,
  round((random() * 1000)::numeric, 2) AS price, jsonb_build_object('n', random()) AS doc FROM generate_series(1, 3)),
kept AS (INSERT INTO public.written SELECT * FROM new RETURNING *)
INSERT INTO raw.events SELECT * FROM kept
"""
_CHANGE = """
WITH changed AS (UPDATE raw.events SET price = price + 1
  WHERE id = (SELECT last_value FROM public.ids) - %(back)s RETURNING at, id, price)
UPDATE public.written w SET price = c.price FROM changed c WHERE w.at = c.at AND w.id = c.id
"""
_TAKE_OUT = """
WITH gone AS (DELETE FROM raw.events WHERE id = (SELECT last_value FROM public.ids) - %(back)s RETURNING at, id)
DELETE FROM public.written w USING gone g WHERE w.at = g.at AND w.id = g.id
"""
_REACHES = ("1 day", "-6 days")  # ahead, and into partitions that may be leaving at that moment
BACK = 40  # how far behind the newest number rows are changed


class Traffic(threading.Thread):
    """One session that writes or reads all the time. `failure`: the first statement that should not have failed."""

    def __init__(self, database: Postgres, number: int) -> None:
        super().__init__(name=f"traffic-{number}")
        self._database, self._number = database, number
        self._chance = random.Random(number)
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self.done = self.late = 0

    def run(self) -> None:
        try:
            with closing(psycopg2.connect(self._database.dsn)) as connection, connection.cursor() as cursor:
                while not self.stopping.is_set():
                    self._once(connection, cursor)
                    self.done += 1
                    self.stopping.wait(self._chance.uniform(0.03, 0.15))
        except BaseException as error:
            self.failure = error

    def _once(self, connection: Any, cursor: Any) -> None:
        if self._number % 3 == 2:
            cursor.execute("SELECT count(*), max(at) FROM raw.events")
            self.stopping.wait(self._chance.choice((0, 0, 0.03)))  # its lock stays until the transaction's end
            connection.rollback()
            return
        is_late = self._number % 3 == 1
        what = _WRITE if is_late else self._chance.choices((_WRITE, _CHANGE, _TAKE_OUT), (6, 3, 1))[0]
        try:
            cursor.execute(what, {"reach": _REACHES[is_late], "back": self._chance.randrange(BACK)})
        except psycopg2.errors.CheckViolation:
            if not is_late:
                raise
            self.late += 1
            connection.rollback()
        else:
            connection.commit()


@contextmanager
def traffic(database: Postgres) -> Iterator[list[Traffic]]:
    """Let clients write and read during the block; no statement of theirs may fail."""
    clients = [Traffic(database, number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()
    assert [client.failure for client in clients if client.failure] == []


__all__ = ["BACK", "CLIENTS", "Traffic", "traffic"]
