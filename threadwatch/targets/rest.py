"""Holds how one watched process rests: whether it has to be read, and what makes that cheap to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from threadwatch.procfs import CpuTimer


@dataclass(slots=True, eq=False)
class Rest:
    """The rest of one process. Close it with the process.

    A field that is not written here names the one module that writes it.
    """

    at_rest: bool = False
    """While its clock stands still, nothing needs to be read: all is known."""
    read_whole: bool = False
    """While its clock stands still, nothing is to be read but what some of its threads wait for."""
    rested: int = 0
    """The number of polls in which it has rested. Written by :mod:`threadwatch.threads.idle`."""
    check_in: int = 0
    """The poll in which some threads are read while it rests.

    Written by :mod:`threadwatch.threads.checks`.
    """
    timer: CpuTimer | None = None
    """Makes its clock cheap while it rests, or hardly any of its threads run."""
    timer_from: int = 0
    """The earliest poll in which to start a timer. Written by :mod:`threadwatch.threads.idle`."""

    roused: Callable[[], object] | None = None
    """Called when it is disturbed. Written by :mod:`threadwatch.threads.idle`."""

    def disturb(self) -> None:
        """Have it read in the next poll, even if its clock stands still."""
        self.at_rest = self.read_whole = False
        if self.roused is not None:
            self.roused()

    def settle(self, *, read_whole: bool, looked: bool) -> None:
        """Note after a poll whether it rests from now on.

        ``read_whole``: its clock has stood still, and all was read; ``looked``: what each of its threads
        waits for is known, too.
        """
        self.read_whole, self.at_rest = read_whole, read_whole and looked

    def start_timer(self, pid: int) -> None:
        """Make its clock cheap. Raises :class:`OSError` if the kernel refuses."""
        self.timer = CpuTimer(pid)

    def close(self) -> None:
        """Let its clock cost what it costs."""
        if self.timer is not None:
            self.timer.delete()
            self.timer = None
