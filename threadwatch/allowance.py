"""How much of the daemon's time, memory and descriptors a process's tables may take.

A target can fill its table with whatever it likes, and again for each poll, at next to no cost to
itself. So it pays: what a thread that starts and ends costs its process at the very least is what each
slot that is read must have cost. An honest process has always paid more than it needs.
"""

from __future__ import annotations

from threadwatch import table
from threadwatch.errors import Gone, ReadError
from threadwatch.procfs import ProcessDir, parse_stat
from threadwatch.samples import NS_PER_TICK

FREE = 256
"""Changed slots that are read in any case."""
_COST_NS = 20_000
"""CPU time that each further one must have cost its process; a thread's start and end cost 50,000 or more."""
_MOST = table.RETAIN_SLOTS
"""What is read at once at most, beside the slots of living threads: no publisher keeps more ended ones."""


class Allowance:
    """How many changed slots of one process may be read."""

    __slots__ = ("_asked", "_given", "_left", "_saved", "_used_ns")

    def __init__(self) -> None:
        self._used_ns = 0
        self._saved = 0
        self._left = 0
        self._given = 0
        self._asked = False

    def begin(self) -> None:
        """Its tables are about to be read."""
        self._saved += min(max(self._left, 0), self._given)
        self._left, self._given, self._asked = FREE, 0, False

    def allows(self, process: ProcessDir | None) -> bool:
        """Whether more may be read now. None: the process has ended, and will not ask again."""
        if self._left <= 0 and not self._asked:
            self._asked = True
            self._left += self._earned(process)
        return self._left > 0

    def spend(self, slots: int) -> None:
        """So many have been read."""
        self._left -= slots

    def _earned(self, process: ProcessDir | None) -> int:
        """What the process may have read now for what it has used and not yet spent."""
        if process is None:
            return _MOST
        try:
            stat = parse_stat(process.read("stat", "stat"))
        except (Gone, ReadError):
            return 0
        used_ns = (stat.user_ticks + stat.system_ticks) * NS_PER_TICK
        earned, self._used_ns = (used_ns - self._used_ns) // _COST_NS, used_ns
        self._saved = min(self._saved + earned, table.CAPACITY)
        self._given = min(self._saved, _MOST)
        self._saved -= self._given
        return self._given + 2 * stat.num_threads


class Room:
    """For second and further tables of processes: subinterpreters have them, and who would use up files."""

    __slots__ = ("most", "used")

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
