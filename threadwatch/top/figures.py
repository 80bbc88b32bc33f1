"""Makes the values of a group, a process or a task in the columns, in the form of a thread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from threadwatch.model.keys import ProcessKey
from threadwatch.model.loops import TaskView
from threadwatch.model.view import ProcessView, ThreadView, Usage


@dataclass(frozen=True, slots=True)
class Figures(Usage):
    """The values of a group or a process in the columns: sums over its threads."""

    tid: int
    """A process's PID; 0 for a group."""
    start_ticks: int
    """The start time of its first process."""
    state: str


def figures_of(process: ProcessView) -> Figures:
    """Return the sums of a process, in the form of a thread."""
    threads = process.threads
    return Figures(
        tid=process.key.pid,
        start_ticks=process.key.start_ticks,
        state="",
        user_ns=process.cpu_ns,
        system_ns=0,
        cpu_ratio=process.cpu_ratio,
        user_ratio=_total(thread.user_ratio for thread in threads),
        system_ratio=_total(thread.system_ratio for thread in threads),
        runqueue_ratio=_total(thread.runqueue_ratio for thread in threads),
        gil_held_ratio=_total(thread.gil_held_ratio for thread in threads),
        gil_wait_ratio=_total(thread.gil_wait_ratio for thread in threads),
    )


class Sums:
    """Keeps the sums of processes from view to view: a process that has not changed is not added up again."""

    def __init__(self) -> None:
        self._known: dict[ProcessKey, tuple[ProcessView, Figures]] = {}

    def take(self, processes: Iterable[ProcessView]) -> None:
        """Forget all processes that are not as they were."""
        before, self._known = self._known, {}
        for process in processes:
            known = before.get(process.key)
            if known is not None and known[0] is process:
                self._known[process.key] = known

    def of(self, process: ProcessView) -> Figures:
        """Return the sums of a process of the last view that was taken."""
        known = self._known.get(process.key)
        if known is None or known[0] is not process:
            known = self._known[process.key] = process, figures_of(process)
        return known[1]


def figures_of_task(task: TaskView, thread: ThreadView) -> Figures:
    """Return the figures of a task of a thread's loop, in the form of a thread."""
    return Figures(
        tid=0,
        start_ticks=thread.start_ticks,
        state="",
        user_ns=task.cpu_ns,
        system_ns=0,
        cpu_ratio=task.cpu_ratio,
        user_ratio=None,
        system_ratio=None,
        runqueue_ratio=None,
        gil_held_ratio=None,
        gil_wait_ratio=None,
    )


def sum_of(members: Iterable[Figures]) -> Figures:
    """Return the sums of a group, of one process at least."""
    figures = list(members)
    return Figures(
        tid=0,
        start_ticks=min(f.start_ticks for f in figures),
        state="",
        user_ns=sum(f.user_ns for f in figures),
        system_ns=sum(f.system_ns for f in figures),
        cpu_ratio=_total(f.cpu_ratio for f in figures),
        user_ratio=_total(f.user_ratio for f in figures),
        system_ratio=_total(f.system_ratio for f in figures),
        runqueue_ratio=_total(f.runqueue_ratio for f in figures),
        gil_held_ratio=_total(f.gil_held_ratio for f in figures),
        gil_wait_ratio=_total(f.gil_wait_ratio for f in figures),
    )


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
