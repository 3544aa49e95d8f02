"""Read ahead in a second thread: the source works while the warehouse does. Bounded, and errors come through."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from millstream_pipelines.failpoints import reached

Item = TypeVar("Item")
_AHEAD = 1  # one batch waiting, one being read, one being written: three in memory at most


def prefetched(items: Iterator[Item], cancel: Callable[[], None] = lambda: None) -> Generator[Item]:
    """Yield the items of an iterator that runs in its own thread, at most one ahead.

    An error of the iterator is raised here, after the items before it. When the consumer stops early, the thread
    ends at its next item and the iterator is closed in that thread; `cancel` makes an item that is waited for fail.
    """
    waiting: queue.Queue[tuple[str, Item | BaseException | None]] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(kind: str, value: Item | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                waiting.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                reached("source-read")
                if not put("item", item):
                    break
            put("end", None)
        except BaseException as error:
            put("error", error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="millstream-reader", daemon=True)
    thread.start()
    ended = False
    try:
        while True:
            kind, value = waiting.get()
            ended = kind != "item"
            if kind == "error" and isinstance(value, BaseException):
                raise value
            if kind == "end":
                return
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        if not ended:
            cancel()
        thread.join()
