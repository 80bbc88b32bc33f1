"""Reads how long the groups' processes were throttled: kept from CPUs because a limit was used up.

A cgroup's ``cpu.stat`` counts that for all its processes. Of a process, its own cgroup is asked, or the
nearest one above it that has a limit; only where the process's own is in our sight, as a host's are to a
daemon on that host.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from threadwatch.accounting.account import Account
from threadwatch.errors import Malformed
from threadwatch.procfs import Throttled, parse_cpu_stat
from threadwatch.targets.process import Process

CGROUPS = "/sys/fs/cgroup"
_EVERY_NS = 5_000_000_000
"""A look costs some files for each cgroup."""
_UNLIMITED = ("", 0)


class Throttling:
    """Looks every five seconds, and tells the account. It begins to count when a cgroup is first seen."""

    def __init__(self, account: Account, root: str = CGROUPS) -> None:
        self._account = account
        self._root = root
        self._next_ns = 0
        self._before: dict[str, int] = {}
        """By directory: the count of the last look."""

    def look(self, processes: Iterable[Process], now_ns: int) -> None:
        """Read the cgroups of all processes that have been polled, if it is time to (CLOCK_MONOTONIC)."""
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + _EVERY_NS
        directories: dict[str, set[str]] = {}
        for watched in processes:
            directory = watched.membership.cpu_cgroup
            if directory is not None and watched.last.poll:
                group = self._account.group_of(watched.key)
                directories.setdefault(group, set()).add(directory)
        every = {each for members in directories.values() for each in members}
        limits = {directory: self._limit(directory) for directory in every}
        for group, members in directories.items():
            counts = dict(found for each in members if (found := limits[each]) is not None)
            if counts:
                gained = (
                    max(count - self._before.get(at, count), 0) for at, count in counts.items()
                )
                self._account.throttle(group, sum(gained))
        self._before = dict(found for found in limits.values() if found is not None)

    def _limit(self, directory: str) -> tuple[str, int] | None:
        """Return the directory that limits a cgroup, and its count; None if its own cannot be read."""
        stat = self._read(directory)
        if stat is None:
            return None
        while stat is not None and not stat.periods:
            directory, _, below = directory.rpartition("/")
            if not below:
                return _UNLIMITED
            stat = self._read(directory)
        return (directory, stat.throttled_ns) if stat is not None else _UNLIMITED

    def _read(self, directory: str) -> Throttled | None:
        try:
            with open(os.path.join(self._root, directory, "cpu.stat"), "rb") as file:
                return parse_cpu_stat(file.read())
        except (OSError, ValueError, Malformed):  # it has gone, or is out of sight
            return None
