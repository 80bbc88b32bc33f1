"""Tells whether a thread was on a CPU while its loop was read: pure, no file is read here.

``syscall`` says ``running`` of every thread that wants a CPU (fs/proc/base.c, proc_pid_syscall()). A thread
that an event has woken, and that still waits for a CPU, is in its selector by its memory: it would be taken
for one that does the loop's own work. Two counts of the scheduler tell:

* how often it was **given** a CPU: the third field of ``schedstat``, counted when it gets one
(kernel/sched/stats.h, sched_info_arrive());
* how often it has **left** one: the context switches in ``status``, voluntary and not, counted when the
next thread is switched to (kernel/sched/core.c, __schedule()).

A thread is on a CPU if it was given one more often than it has left one. The process's CPU clock does not
tell: it is brought up to date only at ticks and switches (kernel/sched/cputime.c, thread_group_cputime()).
"""

from __future__ import annotations

from typing import NamedTuple

from threadwatch.model.loops import Ran


class Turns(NamedTuple):
    """The turns of a thread on CPUs, at one moment."""

    given: int
    left: int
    wants: bool
    """It is on a CPU, or ready to run."""


def has_run(given_before: int | None, after: Turns | None, *, wanted: bool, at_work: bool) -> Ran:
    """Return whether a thread was on a CPU when its loop was read, between two other reads.

    ``given_before``: how often it had been given a CPU before the loop was read; ``wanted``: whether it ran
    or was ready to, then. ``after``: its turns afterwards. ``at_work``: something had the loop. If nothing
    had, the thread was in its selector, in which threads sleep. Where the counts are not known, a thread
    that wants a CPU counts as on one.

    A thread that came to a CPU between the reads, or went to sleep between them, did that to work: if
    something had the loop, then that ran. A thread that was ready all the time has lost its CPU in the
    middle of its work, if something had the loop; else it has only been woken.
    """
    if given_before is None or after is None:
        return Ran.YES if wanted else Ran.NO
    if after.given == given_before and after.given > after.left:
        return Ran.YES  # all the time
    if not at_work:
        return Ran.NO
    if after.given != given_before:
        return Ran.YES
    # It left its last CPU before the second read: to sleep, or for another thread.
    if not wanted:
        return Ran.NO
    return Ran.READY if after.wants else Ran.YES
