"""Runs load generators (``tests/targets/load_*.py``) under a poller, and checks every poll.

A :class:`Load` is a target that says what it has measured of itself. A :class:`Watch` polls the loads
that carry its mark on their command lines, and nothing else. After each poll no total may have
fallen, and for each group the sum over threads must be the CPU time of the group.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.books import MS, cpu_by_name, fallen, threads_ns
from tests.harness import DEADLINE, Target, TargetError
from tests.testbed import Interpreter
from threadwatch.accounting.exit_tails import TAIL_NS
from threadwatch.config.parse import parse_config
from threadwatch.errors import ReadError
from threadwatch.model.keys import SeriesKey
from threadwatch.model.view import GroupView, ProcessView, View
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

OPEN_NS = 110 * MS
"""How much of a process's clock can belong to no thread yet: that of newborn threads, whose names
are about to come within a tenth of a second, and a little of threads that were not read."""


class Load(Target):
    """A load generator."""

    def __init__(
        self, interpreter: Interpreter, program: str, mark: str, *arguments: str, **options: Any
    ) -> None:
        super().__init__(interpreter, program, mark, *arguments, options=(), **options)
        self.pid = self.process.pid

    def has_spoken(self, seconds: float = 0.0) -> bool:
        """Return whether there is something to hear within this many seconds."""
        return b"\n" in self._buffer or bool(self._selector.select(seconds))

    def hear(self, step: str) -> dict[str, Any]:
        """Return what it tells at this step, which must be its next."""
        line = self.next_line()
        if line is None:
            raise TargetError(self.complaint("ended"))
        said: dict[str, Any] = json.loads(line)
        assert said["step"] == step, said
        self.steps.append(step)
        return said

    def clock_ns(self) -> int:
        """Return the kernel's own clock of the process."""
        return time.clock_gettime_ns((~self.pid << 3) | 2)

    def end(self) -> None:
        """Let it go on to its end."""
        self.go()
        assert self.process.wait(DEADLINE) == 0, self.complaint("failed")


class Watch:
    """A poller of the loads that are started with :attr:`mark`, in one group unless told otherwise."""

    def __init__(
        self, name: str = "load", match: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        self.mark = f"load-{uuid.uuid4().hex}"
        config = {
            **settings,
            "unmatched": "ignore",
            "groups": [{"name": name, "match": {"cmdline": self.mark, **(match or {})}}],
        }
        self.errors: list[ReadError] = []
        self.tolerated: frozenset[str] = frozenset()
        """Reasons that are no fault here."""
        self.poller = Poller(
            ProcFS(),
            parse_config(json.dumps(config).encode(), "test"),
            report=self.errors.append,
        )
        self.views: list[View] = []

    def poll(self) -> View:
        """Poll once, and hold the result against the one before and against the clocks."""
        view = self.poller.poll()
        if self.views:
            last = self.views[-1]
            assert fallen(last.groups, view.groups, last.monotonic_ns, view.monotonic_ns) == []
        for group in view.groups:
            open_ns = group.cpu_ns - threads_ns(group)
            assert 0 <= open_ns <= OPEN_NS * max(1, group.processes), (open_ns, cpu_by_name(group))
        wrong = {str(error) for error in self.errors if error.reason not in self.tolerated}
        assert not wrong, wrong
        self.views.append(view)
        return view

    def poll_until(self, condition: Callable[[], bool], what: str, interval: float = 0.02) -> None:
        """Poll until ``condition()`` holds."""
        deadline = time.monotonic() + DEADLINE
        self.poll()
        while not condition():
            if time.monotonic() > deadline:
                raise TargetError(f"waited for {what}; there is {self.views[-1]}")
            time.sleep(interval)
            self.poll()

    def poll_while(self, load: Load, *, interval: float) -> None:
        """Poll at this interval until the load says something."""
        due = time.monotonic()
        while not load.has_spoken(max(0.0, due - time.monotonic())):
            if time.monotonic() >= due:
                self.poll()
                due += interval
                if due < time.monotonic():  # late: as the daemon does, leave out what was missed
                    due = time.monotonic() + interval

    def meet(self, load: Load) -> None:
        """Wait until the load is ready and its table has been found; then let it go on."""
        load.hear("ready")

        def is_met() -> bool:
            process = self.process(load.pid)
            return process is not None and {t.source for t in process.threads} == {"published"}

        self.poll_until(is_met, "the load's table")
        load.go()

    def settle(self) -> None:
        """Poll until the processes have come to rest: then everything stands where it belongs.

        That the clocks stand still is not enough: they do until the next tick while a thread runs, and
        as long as it waits for a CPU.
        """

        def rests() -> bool:
            before = self.views[-1].processes
            if any(runs(process.key.pid) for process in before):
                return False
            self.poll()
            now = self.poll().processes
            return [p.cpu_ns for p in before] == [p.cpu_ns for p in now]

        self.poll_until(rests, "the processes to come to rest")

    def close(self) -> None:
        """Let go of all processes."""
        self.poller.close()

    @property
    def group(self) -> GroupView:
        """Return the group of the loads as the last poll saw it."""
        (group,) = self.views[-1].groups
        return group

    @property
    def cpu(self) -> Mapping[str, int]:
        """CPU time in ns by thread name."""
        return cpu_by_name(self.group)

    def counts(self, name: str) -> tuple[int, int]:
        """Return how many threads of a name have ended, and how many live."""
        totals = self.group.series[SeriesKey(name)]
        return totals.ended, sum(totals.now.values())

    @property
    def started(self) -> int:
        """Return how many threads have started.

        Altogether: one that was seen before it could say its name has started under another.
        """
        return sum(totals.started for totals in self.group.series.values())

    def kernels_ns(self, name: str) -> int:
        """Return the CPU time of all threads that have this name now, by the kernel's word (schedstat)."""
        return sum(
            int(Path(f"/proc/{process.key.pid}/task/{t.tid}/schedstat").read_text().split()[0])
            for process in self.views[-1].processes
            for t in process.threads
            if t.name == name
        )

    def process(self, pid: int) -> ProcessView | None:
        """Return a process as the last poll saw it."""
        return next((p for p in self.views[-1].processes if p.key.pid == pid), None)


def most_beyond_ns(served: Mapping[str, Any]) -> float:
    """Return what a thread of ``load_requests.py`` may have used, on average, beyond what it says.

    On a slow machine that is more than elsewhere. The kernel says how much it is of all these threads: what
    their process has used, less what they say, and less what the main thread has used.
    """
    beyond_ns = served["process_ns"] - served["main_ns"] - sum(served["cpu_ns"].values())
    each_ns: float = beyond_ns / sum(served["threads"].values())
    return max(TAIL_NS, 1.5 * each_ns)


def runs(pid: int) -> bool:
    """Return whether a thread of the process runs, or would if it had a CPU, by the kernel's own word."""
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if task.read_bytes().rsplit(b") ", 1)[1].startswith(b"R"):
                return True
    return False
