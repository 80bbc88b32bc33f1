"""Parses ``/proc/PID/stat`` and ``/proc/PID/task/TID/stat`` (proc_pid_stat(5), fs/proc/array.c)."""

from __future__ import annotations

from typing import NamedTuple

from threadwatch.errors import Malformed

_KTHREAD = 0x00200000
"""PF_KTHREAD in a task's flags (include/linux/sched.h)."""
_LAST = 36
"""The index of the last used field (39, processor) among those after comm."""


class Stat(NamedTuple):
    """One line of stat. In a thread's stat, all but ``num_threads`` counts that thread alone.

    In a process's stat, faults and ticks count all its threads, ended ones included. (A named
    tuple, because many are made in each poll, and one takes a third of a dataclass's time.)
    """

    pid: int
    """The TID in a thread's stat."""
    comm: bytes
    """As the kernel has it: any bytes but NUL, at most 15 for what users may name."""
    state: str
    """One letter, as in proc_pid_stat(5): R, S, D, Z, T, t, X, I …"""
    ppid: int
    minor_faults: int
    major_faults: int
    user_ticks: int
    system_ticks: int
    num_threads: int
    start_ticks: int
    """Start time in clock ticks since boot."""
    last_cpu: int


def parse_stat(data: bytes) -> Stat:
    """Return the fields of stat that are used, or :class:`Malformed`.

    comm stands between the first ``(`` and the last ``)``: a thread may be called ``a) R (b``.
    """
    # Called for each awake thread in each poll: one split, one test that all numbers are digits.
    try:
        open_ = data.index(b" (")
        close = data.rindex(b") ", open_ + 2)
        fields = data[close + 2 :].split(b" ", _LAST + 1)
        state = fields[0]
        used = (
            data[:open_],
            fields[1],  # ppid
            fields[7],  # minflt
            fields[9],  # majflt
            fields[11],  # utime
            fields[12],  # stime
            fields[17],  # num_threads
            fields[19],  # starttime
            fields[_LAST],  # processor
        )
        # int() alone would accept "+1", "1_0" or blanks, and an empty field fails in int().
        if len(fields) == _LAST + 1 or not b"".join(used).isdigit():
            raise Malformed("stat", f"a field is no number, or the line is cut: {data[:400]!r}")
        pid, ppid, minor, major, user, system, threads, start, cpu = map(int, used)
    except (ValueError, IndexError):
        raise Malformed("stat", f"not a line of stat: {data[:400]!r}") from None
    if len(state) != 1 or not state.isalpha():
        raise Malformed("stat", f"the state should be one letter, not {state[:40]!r}")
    return Stat(
        pid,
        data[open_ + 2 : close],
        state.decode("ascii"),
        ppid,
        minor,
        major,
        user,
        system,
        threads,
        start,
        cpu,
    )


class Waited(NamedTuple):
    """CPU time of the ended children that a process has waited for, their own such children included.

    Each field is cut off to a tick.
    """

    user_ticks: int = 0
    system_ticks: int = 0


def parse_waited(data: bytes) -> Waited:
    """Return the clocks of ended children (cutime and cstime), or :class:`Malformed`.

    They are the process's, even in the stat of one thread (fs/proc/array.c, do_task_stat()), and
    there the kernel does not walk all threads for the rest of the line.
    """
    try:
        user, system = data[data.rindex(b") ") + 2 :].split(b" ", 15)[13:15]
        if not (user.isdigit() and system.isdigit()):
            raise ValueError
        return Waited(int(user), int(system))
    except ValueError:
        raise Malformed("stat", f"has no times of ended children: {data[:400]!r}") from None


def is_kernel_thread(data: bytes) -> bool:
    """Return whether a line of stat is that of a kernel thread. A kernel thread stays one for life."""
    flags = data[data.rindex(b") ") + 2 :].split(b" ", 7)[6]
    return flags.isdigit() and bool(int(flags) & _KTHREAD)
