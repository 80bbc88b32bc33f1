"""Reads how long the groups' processes were throttled: kept from CPUs because a limit was used up.

A cgroup's ``cpu.stat`` counts that for all its processes. Of a process, its own cgroup is asked, or the
nearest one above it that has a limit; only where the process's own is in our sight.
"""

from __future__ import annotations

from collections.abc import Iterable

from threadwatch.accounting.account import Account
from threadwatch.errors import Malformed
from threadwatch.procfs import CgroupTree, Place, Throttled, parse_cpu_stat
from threadwatch.targets.process import Process

_EVERY_NS = 5_000_000_000
"""A look costs some files for each cgroup."""
_UNLIMITED = (Place("", ""), 0)


class Throttling:
    """Looks every five seconds, and tells the account. It begins to count when a cgroup is first seen."""

    def __init__(self, account: Account, tree: CgroupTree) -> None:
        self._account = account
        self._tree = tree
        self._next_ns = 0
        self._before: dict[Place, int] = {}
        """The counts of the last look."""

    def look(self, processes: Iterable[Process], now_ns: int) -> None:
        """Read the cgroups of all processes that have been polled, if it is time to (CLOCK_MONOTONIC)."""
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + _EVERY_NS
        places: dict[str, set[Place]] = {}
        for watched in processes:
            path = watched.membership.cpu_cgroup
            place = self._tree.place(path) if path is not None and watched.last.poll else None
            if place is not None:
                places.setdefault(self._account.group_of(watched.key), set()).add(place)
        every = {each for members in places.values() for each in members}
        limits = {place: self._limit(place) for place in every}
        for group, members in places.items():
            counts = dict(found for each in members if (found := limits[each]) is not None)
            if counts:
                gained = (
                    max(count - self._before.get(at, count), 0) for at, count in counts.items()
                )
                self._account.throttle(group, sum(gained))
        self._before = dict(found for found in limits.values() if found is not None)

    def _limit(self, place: Place) -> tuple[Place, int] | None:
        """Return the cgroup that limits this one, and its count; None if its own cannot be read."""
        stat = _read(place)
        if stat is None:
            return None
        while stat is not None and not stat.periods:
            directory, _, below = place.directory.rpartition("/")
            if not below:
                return _UNLIMITED
            place = place._replace(directory=directory)
            stat = _read(place)
        return (place, stat.throttled_ns) if stat is not None else _UNLIMITED


def _read(place: Place) -> Throttled | None:
    try:
        with open(f"{place.root}/{place.directory}/cpu.stat", "rb") as file:
            return parse_cpu_stat(file.read())
    except (OSError, ValueError, Malformed):  # it has gone, or is out of sight
        return None
