"""Defines what is seen of the loops that run user-level threads: tasks and greenlets on one kernel thread."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

LoopKind = Literal["asyncio", "uvloop", "trio", "gevent"]
"""The library that runs the loop. ``asyncio`` is its own loop, in Python."""

LOOP_KINDS: tuple[LoopKind, ...] = get_args(LoopKind)

LOOP = "(loop)"
"""The task name that is charged with what the loop itself does, between its tasks and callbacks."""
UNKNOWN = "(unknown)"
"""The task name that is charged where a look could not tell what has the loop."""
CALLBACK = "(callback) "
"""What the name of a callback that belongs to no task begins with; its qualified name follows."""


class LoopSample(NamedTuple):
    """The state of one thread's loop at one moment."""

    tid: int
    """The thread that runs it, in the process's own PID namespace."""
    kind: LoopKind
    holder: str | None
    """What has the loop: the explicit name of a task, else the qualified name of its coroutine; or one of the
    names above. None: the loop waits for events, or asks for them."""
    function: str | None
    """The outermost function of the application under that task, as ``module.qualname``; None: there is none,
    or it was not asked for."""
    age_ns: int | None
    """Time since the loop came back from its selector: what an event that arrives now has to wait at
    least. 0 while it waits for events; None: not known."""
    ready: int | None
    """Callbacks that are ready to be run; None: not known."""


class TaskCount(NamedTuple):
    """The living tasks of one thread that share a name."""

    ready: int
    """Those that run or can run."""
    waiting: int
    """Those that wait for a future."""


class Census(NamedTuple):
    """All tasks of one thread's loop that are not done, by name as in :attr:`LoopSample.holder`."""

    tid: int
    kind: LoopKind
    counts: dict[str, TaskCount]
