"""Puts the values of a View into words, the same in every output that people read.

Every text here is safe for a terminal: names from targets have been made printable.
"""

from __future__ import annotations

from collections.abc import Sequence

from threadwatch.labels.applications import is_multiprocessing_child
from threadwatch.labels.discretion import without_secrets
from threadwatch.model.keys import Python
from threadwatch.model.loops import TaskView
from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.words.text import printable

_MOST_TASKS = 10
"""Tasks of one thread that are shown, the busiest."""


def thread_name(thread: ThreadView) -> str:
    """Return the thread's Python name; or the kernel's comm in parentheses."""
    name = printable(thread.name)
    if thread.source == "comm":
        return f"({name})"
    if not name:
        return '""'
    return name + "…" if thread.name_cut else name


def busiest_tasks(thread: ThreadView) -> list[TaskView]:
    """Return the tasks of a thread to show: those that live, or have had the loop, the busiest first."""
    if thread.loop is None:
        return []
    tasks = [task for task in thread.loop.tasks if task.cpu_ratio or task.held_ratio or task.alive]
    tasks.sort(key=lambda task: (-(task.cpu_ratio or 0), -(task.held_ratio or 0), task.name))
    return tasks[:_MOST_TASKS]


def loop_held(thread: ThreadView) -> float | None:
    """Return how much of the time something had the thread's loop; None: not known, or it has none."""
    held = [task.held_ratio for task in thread.loop.tasks] if thread.loop else []
    known = [ratio for ratio in held if ratio is not None]
    return sum(known) if known else None


def tasks_alive(task: TaskView) -> str:
    """Return ``2 ready, 7 waiting``; empty where the tasks have not been counted, or there are none."""
    if task.alive is None:
        return ""
    counts = ((task.alive.ready, "ready"), (task.alive.waiting, "waiting"))
    return ", ".join(f"{number:,} {word}" for number, word in counts if number)


def command(process: ProcessView, parent: ProcessView | None) -> str:
    """Return the process's command line, or its part in the application that started it."""
    if is_multiprocessing_child(process.cmdline):
        code = " ".join(process.cmdline)
        for word, part in (
            ("_tracker import", "resource tracker"),
            ("forkserver import", "fork server"),
        ):
            if word in code:
                return part
        return "worker"
    if parent is not None and process.cmdline == parent.cmdline:
        return "worker, forked"
    if not process.cmdline:
        return f"({printable(process.comm)})"
    program, *arguments = without_secrets(process.cmdline)
    return printable(" ".join([program.rpartition("/")[2] or program, *arguments]))


def version(python: Python) -> str:
    """Return ``CPython 3.12.1``, with what sets a free-threaded one apart."""
    kind = "" if not python.free_threaded else " free-threaded" + ", GIL on" * python.gil
    return f"{interpreter(python.implementation, python.version)}{kind}"


def interpreter(implementation: str, version: Sequence[int]) -> str:
    """Return ``CPython 3.12.1`` for ``cpython`` and its version."""
    name = {"cpython": "CPython"}.get(implementation, implementation or "Python")
    return f"{name} {dotted(version)}"


def dotted(version: Sequence[int]) -> str:
    """Return ``3.12.1``."""
    return ".".join(map(str, version))


def count(number: int, one: str, many: str) -> str:
    """Return ``1 thread``, ``2 threads``."""
    return f"{number:,} {one if number == 1 else many}"


def left_out(number: int) -> str:
    """Say that this many processes are left out for lack of file descriptors, and what to do."""
    return (
        f"{count(number, 'process is', 'processes are')} left out, because each needs two open files: "
        "raise the hard limit (ulimit -n as root, LimitNOFILE= in a unit), or name processes by PID"
    )


def percent(ratio: float | None) -> str:
    """Return ``61.2``, or an empty text where the value is unknown."""
    return "" if ratio is None else f"{ratio * 100:.1f}"


def duration(seconds: float) -> str:
    """Return CPU time as top shows it: ``0.07``, ``2:03.51``, ``3:25:01``."""
    if seconds < 60:
        return f"{seconds:.2f}"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{int(minutes)}:{rest:05.2f}"
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{int(rest):02}"


def age(seconds: float) -> str:
    """Return ``12s``, ``3m12s``, ``2h05m``, ``5d03h``: never more than seven characters in 27 years."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
