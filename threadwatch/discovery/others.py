"""Keeps the processes that are not watched, and what is known of them as parents and children.

Their CPU time at their end shows in their parents' clocks of ended children
(:mod:`threadwatch.accounting.children`), which has to know which children were not watched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from threadwatch.discovery.looks import Looks
from threadwatch.reading.hangs import HangRecords

_BRIEF = 2
"""Polls for which a process that is not watched can be seen, and still counts as work of its parent."""


@dataclass(slots=True, eq=False)
class Other:
    """A process that is not watched."""

    start_ticks: int
    looks: Looks
    hangs: HangRecords
    ppid: int = 0
    since: int = 0
    """The poll in which it was first seen."""
    is_parent: bool = False
    """It has been seen with a child."""
    had_ended: bool = False
    """It had ended when it was first seen, and its parent had not waited for it yet."""


class Others:
    """Keeps the processes that are not watched, by PID."""

    def __init__(self) -> None:
        self._known: dict[int, Other] = {}
        self._parents: set[int] = set()
        """PIDs of processes that have been seen with a child."""
        self._foreign: set[int] = set()
        """PIDs of processes that had a child which was not watched, lived for a while, and has gone."""
        self._unseen: Counter[int] = Counter()
        """CPU time in ns of those children of theirs that had ended when they were first seen."""

    def __contains__(self, pid: int) -> bool:
        return pid in self._known

    def get(self, pid: int) -> Other | None:
        """Return a process that is not watched; None: it is not known, or it is watched."""
        return self._known.get(pid)

    def add(self, pid: int, other: Other) -> None:
        """Keep a process that is not watched."""
        self._known[pid] = other

    def discard(self, pid: int) -> None:
        """Forget a process that is watched from now on."""
        self._known.pop(pid, None)

    def clear(self) -> None:
        """Forget all: they are to be judged again."""
        self._known.clear()

    def gone(self, living: Iterable[int]) -> set[int]:
        """Return the PIDs of processes that are kept here and not among the living."""
        return self._known.keys() - set(living)

    def children_of(self, parents: set[int]) -> list[int]:
        """Return the PIDs of processes whose parents are among these."""
        return [pid for pid, other in self._known.items() if other.ppid in parents]

    def note_parent(self, pid: int) -> None:
        """Note that a process, watched or not, has a child."""
        self._parents.add(pid)
        other = self._known.get(pid)
        if other is not None:
            other.is_parent = True

    def forget(self, pid: int, poll: int) -> None:
        """Note that a process has gone, if it is known at all."""
        other = self._known.pop(pid, None)
        if other is None:
            return
        if other.is_parent or (poll > other.since + _BRIEF and not other.had_ended):
            self._foreign.add(other.ppid)
        elif other.had_ended:
            self._unseen[other.ppid] += max(other.looks.clock_ns, 0)

    def take_parents(self) -> set[int]:
        """Return the PIDs of processes that have been seen with a child since the last call."""
        parents, self._parents = self._parents, set()
        return parents

    def take_gone_children(self) -> tuple[set[int], Mapping[int, int]]:
        """Return two facts about the processes that have gone since the last call.

        The PIDs of parents whose child lived for a while; and by the parent's PID, the CPU time in ns of
        children that had ended when they were first seen.
        """
        foreign, self._foreign = self._foreign, set()
        unseen, self._unseen = self._unseen, Counter()
        return foreign, unseen
