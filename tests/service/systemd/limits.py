"""A real limit of memory for one process, whatever cgroups this machine has (cgroups(7))."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import TestbedError

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Limited:
    """A cgroup whose processes together get no more."""

    directory: Path

    def add(self, pid: int) -> None:
        """Put a process into it; what it has by now does not count."""
        (self.directory / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """Return how many processes the kernel's OOM killer has taken."""
        events = self.directory / ("memory.oom_control" if _is_v1() else "memory.events")
        fields = dict(line.split() for line in events.read_text().splitlines())
        return int(fields["oom_kill"])


@contextlib.contextmanager
def memory_limit(size: str) -> Iterator[Limited]:
    """Yield a cgroup with that much memory (``1M``); it is removed once it is empty."""
    parent = _V1 if _is_v1() else _V2
    directory = parent / "threadwatch-test"
    try:
        if not _is_v1():
            (_V2 / "cgroup.subtree_control").write_text("+memory")
        directory.mkdir(exist_ok=True)
        limit = "memory.limit_in_bytes" if _is_v1() else "memory.max"
        (directory / limit).write_text(size)
    except OSError as error:
        message = f"{directory}: {error}: the tests need root, and the memory controller of cgroups"
        raise TestbedError(message) from None
    try:
        yield Limited(directory)
    finally:
        for line in (directory / "cgroup.procs").read_text().split():
            (parent / "cgroup.procs").write_text(line)
        directory.rmdir()


def _is_v1() -> bool:
    return (_V1 / "memory.limit_in_bytes").exists()
