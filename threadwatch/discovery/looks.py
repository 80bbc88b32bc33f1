"""Schedules the looks at processes, and keeps the results of the last look at each.

A process is looked at again after 1, 2, 4 … 32 polls at most. The looks at different processes are spread
over the polls.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_WAIT = 32
"""Polls after which a process is looked at again, at the latest."""


@dataclass(slots=True, eq=False)
class Looks:
    """The looks at one process."""

    wait: int = 1
    """Polls until the next look for another program (exec), and for a table if there is none."""
    clock_ns: int = -1
    """The process clock at the last look: while it stands still, there is nothing new. -1: look anyway."""
    embeds: str | None = None
    """The program, not called Python, in which a Python was found."""
    files_searched: int = 0
    """File descriptors that have been looked at for a table beyond the first ones."""

    def done(self, clock_ns: int) -> None:
        """Note a look at the process when its clock was this."""
        self.clock_ns = clock_ns

    def again(self) -> None:
        """Have the next look made in any case."""
        self.clock_ns = -1

    def soon(self) -> None:
        """Begin to wait anew: the next look is after one poll."""
        self.wait = 1

    def later(self) -> None:
        """Wait twice as long from now on."""
        self.wait = min(self.wait * 2, LONGEST_WAIT)

    def found(self, program: str | None) -> None:
        """Note the program in which a Python was found, or that there is none."""
        self.embeds = program

    def search_files(self, count: int) -> None:
        """Note a search among this many more file descriptors."""
        self.files_searched += count


class LookSchedule:
    """The processes to be looked at, poll by poll."""

    def __init__(self) -> None:
        self._due: dict[int, list[int]] = {}
        """By the number of the poll: PIDs. Those of poll 0 are due in the next one."""

    def at(self, poll: int, pid: int) -> None:
        """Look at a process in this poll; 0: in the next one."""
        self._due.setdefault(poll, []).append(pid)

    def after(self, poll: int, wait: int, pid: int) -> None:
        """Look at a process after this many polls at most: its PID decides in which one."""
        turn = pid * 0x9E3779B1 >> 16  # PIDs that come together are often of one residue
        self.at(poll + wait - (poll + turn) % wait, pid)

    def take(self, poll: int) -> set[int]:
        """Return the PIDs that are due in a poll."""
        return set(self._due.pop(poll, []) + self._due.pop(0, []))

    def clear(self) -> None:
        """Forget all."""
        self._due.clear()
