"""Tells which kinds of loops the threads of a process run, or why none can be seen."""

from __future__ import annotations

import time

from threadwatch.doctor.findings import LoopsFound
from threadwatch.errors import Denied, Gone, ReadError, Unsupported
from threadwatch.model.loops import LoopKind
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.procfs import MemoryFile
from threadwatch.targets.process import Process
from threadwatch.tasks.loops import Loops

_TRIES = 5
"""How often loops are looked for: a hub of gevent is found only while it runs."""


def loops_of(watched: Process, memory: MemoryFile) -> LoopsFound:
    """Return which loops the threads of a process run, as a daemon with this configuration sees them."""
    config = watched.membership.config
    if not config.tasks.rate or not config.wait_rate:
        return LoopsFound(why_none="off")
    try:
        auxv = watched.dir.read("auxv", "auxv")
        try:
            python = find_python(Snapshot(memory, FIRST_LOOK), auxv, watched.ns_pid)
        except Denied:
            raise
        except ReadError:
            return LoopsFound(why_none="unsupported")  # what is said of its names says why
        return _find(Loops(python), memory)
    except Gone:
        return LoopsFound()
    except Denied:
        return LoopsFound(why_none="hidden")
    except Unsupported as error:
        return LoopsFound(why_none="unsupported", detail=error.detail)
    except ReadError as error:
        return LoopsFound(why_none="failed", detail=error.detail)


def _find(loops: Loops, memory: MemoryFile) -> LoopsFound:
    """Return the kinds that are found in some looks. Raises Gone, Denied, or the last look's ReadError."""
    for tries_left in reversed(range(_TRIES)):
        now_ns = time.monotonic_ns()
        try:
            loops.find(memory, now_ns)
        except Denied:
            raise
        except ReadError:
            if not tries_left:
                raise
        samples = loops.sample(memory, now_ns, functions=False)
        kinds: set[LoopKind] = {sample.kind for sample in samples}
        if kinds:
            return LoopsFound(tuple(sorted(kinds)))
    return LoopsFound()
