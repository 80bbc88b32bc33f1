"""Parses ``/proc/PID/task/TID/syscall`` (proc_pid_syscall(5), proc_pid_syscall() in fs/proc/base.c)."""

from __future__ import annotations

import re
from typing import NamedTuple

from threadwatch.errors import Malformed

RUNNING = b"running\n"
"""The file's content while the thread runs or is ready to run."""

# int() alone would accept "+1", "1_0", blanks, and numbers without their 0x.
_WORD = rb" 0x[0-9a-f]{1,16}"
_LINE = re.compile(
    rb"(?:[0-9]{1,10}(?:" + _WORD + rb"){6}|-[1-9][0-9]{0,9})(?:" + _WORD + rb"){2}\n"
)


class Syscall(NamedTuple):
    """The system call that a thread is blocked in, or a block outside of system calls.

    A named tuple, because one may be made for each thread in each sample.
    """

    number: int
    """By the table of the thread's own architecture. Negative: blocked outside of system calls, in a page
    fault or a stop, or no longer there (a zombie)."""
    args: tuple[int, ...]
    """The six argument registers, whole: the upper half of an ``int`` argument means nothing. Empty
    outside of system calls."""
    sp: int
    """The stack pointer."""
    pc: int
    """The program counter."""


def parse_syscall(data: bytes) -> Syscall | None:
    """Return the call that the thread is blocked in, None while it runs, or :class:`Malformed`."""
    if data == RUNNING:
        return None
    if not _LINE.fullmatch(data):
        raise Malformed("syscall", f"should be a call or 'running', not {data[:200]!r}")
    fields = data.split(b" ")
    *args, sp, pc = [int(field, 16) for field in fields[1:]]
    return Syscall(int(fields[0]), tuple(args), sp, pc)
