"""Limits the daemon's time, memory and descriptors for processes' tables.

A target can fill its table with anything, and again for each poll, at next to no cost to itself. So
it pays, with the CPU time that the kernel has counted for it: reading and keeping a slot each have
the price of the least CPU time that the start and end of a thread take. An honest process has
always paid more than it needs. All processes together have a limit besides (:class:`SharedBudget`),
because a process that has paid once keeps its slots for good.
"""

from __future__ import annotations

import time
from collections import Counter

from threadwatch.errors import Gone, ReadError
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.procfs import ProcessDir, parse_stat
from threadwatch.publisher import layout as table

FREE = 64
"""Changed slots that are read in any case, or pieces that are compared; and slots that are kept."""
_COST_NS = 20_000
"""CPU time that each further slot must have cost its process; a thread's start and end take 50,000
or more."""
_MOST = table.RETAIN_SLOTS
"""The most slots that are read at once, besides those of living threads: no publisher keeps more
ended ones."""
_MOST_SLOTS = 8 * table.CAPACITY
"""The most slots that are kept of all processes: some 200 MiB, measured at 0.8 KiB for each slot."""
_LAST_WORDS_PER_S = _MOST
"""Changed slots that are read in the tables of processes that have ended, of all of them together,
each second."""


class SharedBudget:
    """The shared limits of all tables: descriptors, places for slots, time for last words."""

    __slots__ = ("_files_left", "_kept", "_left", "_words", "_words_ns")

    def __init__(self, most: int, slots: int = _MOST_SLOTS) -> None:
        """Limits second and further tables to ``most``, over all processes.

        Subinterpreters need such tables; a hostile process must not use up our files.
        """
        self._files_left = most
        self._left = slots
        self._kept: Counter[int] = Counter()
        self._words = 4 * _LAST_WORDS_PER_S
        self._words_ns = time.monotonic_ns()

    @property
    def files_left(self) -> int:
        """Return how many more second and further tables may be kept open."""
        return self._files_left

    def take_file(self) -> None:
        """Count a second or further table of a process."""
        self._files_left -= 1

    def give_back_file(self) -> None:
        """Count a second or further table of a process no longer."""
        self._files_left += 1

    def take(self, uid: int, slots: int) -> int:
        """Take places for this many slots, or as many as there are; return their number.

        The processes of one user get half of what all others leave, so some places are always left
        for others.
        """
        kept = self._kept[uid]
        taken = max(min(slots, (self._left + kept) // 2 - kept), 0)
        self._left -= taken
        self._kept[uid] += taken
        return taken

    def give_back(self, uid: int, slots: int) -> None:
        """Give back this many places."""
        self._left += slots
        self._kept[uid] -= slots
        if not self._kept[uid]:
            del self._kept[uid]

    def last_words(self) -> int:
        """Return how many changed slots may be read of a process that has ended and cannot pay any more."""
        now_ns = time.monotonic_ns()
        earned = (now_ns - self._words_ns) * _LAST_WORDS_PER_S // 1_000_000_000
        if earned:
            self._words_ns = now_ns
            self._words = min(self._words + earned, 4 * _LAST_WORDS_PER_S)
        return min(self._words, _MOST)

    def spend_words(self, slots: int) -> None:
        """Note that this many of those have been read."""
        self._words -= slots


class SlotBudget:
    """The limits of one process: slots to keep, and changed slots to read."""

    __slots__ = (
        *("_asked", "_counted", "_given", "_kept", "_left", "_paid"),
        *("_shared", "_saved", "_uid", "_used_ns", "_words", "refused"),
    )

    def __init__(self, shared: SharedBudget) -> None:
        self._shared = shared
        self._uid = -1
        self._used_ns = -1
        self._saved = 0
        self._left = 0
        self._given = 0
        self._counted = self._asked = False
        self._words = 0
        self._paid = FREE
        self._kept = 0
        self.refused = False
        """Whether a slot was not kept although the process has paid for it."""

    def begin(self) -> None:
        """Begin a reading of its tables."""
        self._saved += min(max(self._left, 0), self._given)
        self._left, self._given = FREE, 0
        self._counted = self._asked = False

    def allows(self, process: ProcessDir | None) -> bool:
        """Return whether more may be read now. None: the process has ended, and this is the last time."""
        if self._left <= 0 and not self._counted:
            self._counted = True
            self._left += self._shared.last_words() if process is None else 2 * _threads(process)
        if self._left <= 0 and not self._asked and process is not None:
            self._asked = True
            self._left += self._earned(process)
        return self._left > 0

    def spend(self, process: ProcessDir | None, slots: int) -> None:
        """Note that this many have been read, or pieces compared."""
        self._left -= slots
        if process is None and self._counted:
            self._shared.spend_words(slots)

    def keep(self, process: ProcessDir | None, slots: int) -> bool:
        """Return whether this many slots of all its tables may be kept; if so, their places are taken.

        They fit into one table. None: it has ended, and they are forgotten as soon as they have been read.
        """
        if process is None:
            return True
        if slots > table.CAPACITY:
            return False
        if slots > self._paid:
            paid = FREE + 2 * _threads(process) + max(_used_ns(process), 0) // _COST_NS
            self._paid = max(self._paid, paid)
            if slots > self._paid:
                return False
        missing = slots - self._kept
        if missing > 0:
            if not self._kept:
                self._uid = _owner(process)
            taken = self._shared.take(self._uid, missing)
            if taken < missing:
                self._shared.give_back(self._uid, taken)
                self.refused = True
                return False
            self._kept = slots
        return True

    def give_back(self, slots: int) -> None:
        """Keep at most this many slots from now on."""
        if slots < self._kept:
            self._shared.give_back(self._uid, self._kept - slots)
            self._kept = slots

    def _earned(self, process: ProcessDir) -> int:
        """Return how many slots the process's unspent CPU time has paid for.

        Once in its life that can be a whole table, if it is old at the first look; later it saves
        up no more than a publisher keeps for late readers.
        """
        used_ns = _used_ns(process)
        if used_ns < 0:
            return 0
        if self._used_ns < 0:
            self._saved = min(used_ns // _COST_NS, table.CAPACITY)
        elif self._saved < _MOST:
            self._saved = min(self._saved + (used_ns - self._used_ns) // _COST_NS, _MOST)
        self._used_ns = used_ns
        self._given = min(self._saved, _MOST)
        self._saved -= self._given
        return self._given


def _owner(process: ProcessDir) -> int:
    """Return the uid of its user; -1 once it has ended."""
    try:
        return process.owner_uid()
    except (Gone, ReadError):
        return -1


def _threads(process: ProcessDir) -> int:
    """Return the number of its threads; 0 if unknown."""
    try:
        return process.thread_count()
    except (Gone, ReadError):
        return 0


def _used_ns(process: ProcessDir) -> int:
    """Return the CPU time that it has used in its life; -1 if unknown."""
    try:
        stat = parse_stat(process.read("stat", "stat"))
    except (Gone, ReadError):
        return -1
    return (stat.user_ticks + stat.system_ticks) * NS_PER_TICK
