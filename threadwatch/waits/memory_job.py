"""Reads the memory of a process for one sample, if it may be read and answers in time."""

from __future__ import annotations

from collections.abc import Callable

from threadwatch.errors import Denied, Gone, ReadError
from threadwatch.reading.reader import GuardedReader
from threadwatch.waits.gil_holder import MemoryReads
from threadwatch.waits.reasons import AskCondition
from threadwatch.waits.records import SampledProcess, Target


def read_memory(
    process: SampledProcess,
    target: Target,
    now_ns: int,
    guarded: GuardedReader,
    complain: Callable[[ReadError], None],
) -> MemoryReads | None:
    """Return the holders of a process's GILs and the answers to its questions; None: it tells nothing now.

    ``complain`` takes the errors that are to be reported.
    """
    hangs = target.hangs
    if hangs.memory.is_stuck(now_ns):
        complain(ReadError("gil", "timeout", "its memory cannot be read"))
    if process.memory_denied or not guarded.may_read(hangs, "memory", target.owner_uid, now_ns):
        return None
    try:
        memory = process.memory or target.dir.open_memory()
    except Gone:
        return None
    except ReadError as error:
        complain(error)
        if isinstance(error, Denied):
            process.deny_memory()
        return None
    job = MemoryReads(memory, process.gils, [ask for _, ask in process.asks])
    job.run()
    process.keep_memory(None if job.gone else memory)
    if job.gone:  # the program has ended; another may have replaced it (exec)
        return None
    if job.error is not None and job.failed is not None and target.still_tells(job.failed):
        complain(job.error)
    return job


def guess(process: SampledProcess) -> None:
    """Count threads that poll as in ``poll``, and on a stack as in ``lock``: the memory cannot be read."""
    for thread, ask in process.asks:
        thread.see("lock" if isinstance(ask, AskCondition) else "poll", process.sampled_ns)
