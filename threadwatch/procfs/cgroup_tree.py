"""Finds the directories of cgroups, also from a cgroup namespace of our own (cgroup_namespaces(7)).

There ``/proc/PID/cgroup`` begins with ``..`` for each process outside of the namespace, and only our own part
is mounted at ``/sys/fs/cgroup``. But the first process of the host has all of it, and ``/proc/1/root`` leads
there (proc_pid_root(5); needs CAP_SYS_PTRACE).
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from threadwatch.procfs.stat import is_kernel_thread

CGROUPS: Final = "/sys/fs/cgroup"
_OUTSIDE = re.compile(r"(?P<hierarchy>cpu/)?(?P<up>\.\.(?:/\.\.)*)(?P<rest>/.*)?", re.DOTALL)
"""In a hierarchy of v1, which is a directory of its own, or in that of v2."""
_MOST = 50_000
"""Directories among which our own is searched for."""


class Place(NamedTuple):
    """The place of a cgroup."""

    root: str
    """The directory of its hierarchy."""
    directory: str
    """Its own, below that."""


class CgroupTree:
    """The cgroups that a daemon can see, by their paths in ``/proc/PID/cgroup``."""

    def __init__(self, root: str = CGROUPS, proc: str = "/proc") -> None:
        """``root`` is where our own part is mounted; ``proc`` shows the PIDs of our PID namespace."""
        self._root = root
        self._proc = proc
        self._own: dict[str, list[str] | None] = {}

    def place(self, path: str) -> Place | None:
        """Return where a cgroup is, by its path for the cpu controller; None if it is out of sight."""
        outside = _OUTSIDE.fullmatch(path)
        if outside is None:
            return Place(self._root, path)
        hierarchy, rest = outside["hierarchy"] or "", (outside["rest"] or "").strip("/")
        if hierarchy not in self._own:
            self._own[hierarchy] = self._own_parts(hierarchy)
        own = self._own[hierarchy]
        levels = outside["up"].count("..")
        if own is None or levels > len(own):
            return None
        parts = own[: len(own) - levels]
        return Place(
            f"{self._proc}/1/root{CGROUPS}/{hierarchy}", "/".join([*parts, rest]).strip("/")
        )

    def _own_parts(self, hierarchy: str) -> list[str] | None:
        """Return the path of our namespace's root in the host's tree; None: it cannot be found."""
        host = f"{self._proc}/1/root{CGROUPS}/{hierarchy}"
        try:
            if not self._shows_the_host():
                return None
            ours, theirs = os.stat(f"{self._root}/{hierarchy}"), os.stat(host)
        except OSError:  # permission is missing, or there is no such hierarchy
            return None
        return _find(host, ours.st_ino) if ours.st_dev == theirs.st_dev else None

    def _shows_the_host(self) -> bool:
        """Return whether PID 2 is a kernel's thread: then PID 1 is the host's, and no container's."""
        with open(f"{self._proc}/2/stat", "rb") as file:
            return is_kernel_thread(file.read())


def _find(root: str, inode: int) -> list[str] | None:
    """Return the names that lead to the directory with this inode, a cgroup's number; None: none has it."""
    pending: list[list[str]] = [[]]
    for parts in pending:
        try:
            with os.scandir("/".join([root, *parts])) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        here = [*parts, entry.name]
                        if entry.inode() == inode:
                            return here
                        pending.append(here)
        except OSError:  # it has gone meanwhile
            continue
        if len(pending) > _MOST:
            break
    return None
