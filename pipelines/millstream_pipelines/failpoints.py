"""Named places of a run where tests make the process die, sleep or fail. Unarmed, a place costs one comparison.

A pod arms one with MILLSTREAM_FAILPOINT=`place:nth:action`: at the nth time the place is reached, `kill` ends the
process as SIGKILL does, `stop` puts it to sleep until SIGCONT, `error` raises.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Literal, get_args

from millstream_pipelines.errors import ConfigurationError, unknown_value

VARIABLE = "MILLSTREAM_FAILPOINT"
Place = Literal[
    "migrated",  # `_millstream` is made, not committed
    "lock-asked",  # the stream's advisory lock was asked for, the epoch not moved
    "lease-taken",
    "shaped",
    "source-read",  # in the thread that reads
    "begun",
    "old-rows-deleted",  # of a replace
    "in-copy",
    "staged",
    "quarantined",
    "written",
    "merged",
    "settled",
    "position-advanced",
    "ledger-entered",  # the last instant before the commit
    "committed",
    "keys-read",  # the keys that the source has are noted, no row is taken out yet
    "swept",  # absent rows are taken out, not committed
    "reconciled",
    "transform-built",
    "ending",  # everything is committed, the report is not recorded
    "reporting",  # the report is recorded, the termination log is not written
]
RetentionPlace = Literal[
    "partition-made",
    "partition-checked",  # a filled table has its validated CHECK, and is not attached
    "partition-attached",
    "retiring",  # `_millstream.retired` says that a partition is to be detached
    "detached",  # it is, and nobody has noted it
    "exported",  # a file of an attempt is in the store, no manifest
    "read-back",  # the files have been compared
    "manifest-written",
    "archived",
    "dropping",  # inside the transaction that drops
    "dropped",
    "restoring",  # a table for them is there, empty
    "restored",  # the rows are back in a table of their own, not attached
    "convert-checking",  # a plain table has the CHECK that its rows fit one range, not validated
    "converting",  # inside the transaction that turns a plain table into a partitioned one
    "converted",
    "convert-validated",  # foreign keys to the table hold for old rows too; no partition is made ahead
    "split-prepared",  # empty partitions, log and function are there, no trigger
    "split-begun",  # changes of the old range are noted from now on
    "split-batch",  # one batch of its rows is copied
    "split-renewed",  # noted changes are brought in
    "split-copied",  # all of them
    "split-indexed",
    "split-verified",
    "split-switching",  # inside the transaction that puts the partitions in the old range's place
    "split-switched",
    "split-keyed",  # one foreign key is validated on all partitions, the table itself has it not
    "split-settled",  # foreign keys hold for old rows too, the planner knows the partitions
    "split-ending",  # inside the transaction that drops the old range's table
    "split-ended",
    "abandoning",  # inside the transaction that takes all of a split away
    "abandoned",
    "erased",  # live rows are gone, archives are not rewritten
    "erasing",  # an archive's rows are in a table, none is deleted
    "deleting",  # an archive's manifest has left the store, its objects have not
    "superseded",  # a new archive has taken its place, the old one is still in the store
]
Action = Literal["kill", "stop", "error"]


class FailpointError(Exception):
    """What an `error` failpoint raises: an error that nobody foresaw."""


class _Armed:
    """The one place that is armed, and how often it must still be reached."""

    def __init__(self, place: str, left: int, action: str) -> None:
        self.place, self.left, self.action = place, left, action
        self._guard = threading.Lock()  # one place is reached by the reading thread

    def reached(self, place: str) -> None:
        if place != self.place:
            return
        with self._guard:
            self.left -= 1
            if self.left != 0:
                return
        if self.action == "error":
            raise FailpointError(f"failpoint '{place}'")
        os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)


_armed: _Armed | None = None


def reached(place: Place | RetentionPlace) -> None:
    """Say that the run is at this place."""
    if _armed is not None:
        _armed.reached(place)


def arm(text: str | None) -> None:
    """Arm the place that `text` names; none with an empty text. ConfigurationError when it cannot be read."""
    global _armed
    if not text:
        _armed = None
        return
    place, _, rest = text.partition(":")
    nth, _, action = rest.partition(":")
    known = (*get_args(Place), *get_args(RetentionPlace))
    if place not in known:
        raise unknown_value(VARIABLE, "place", place, known)
    if not nth.isdecimal() or nth == "0" or action not in get_args(Action):
        raise ConfigurationError(
            f"{VARIABLE} is '{text}'; write place:nth:action, nth from 1, action one of {', '.join(get_args(Action))}"
        )
    _armed = _Armed(place, int(nth), action)
