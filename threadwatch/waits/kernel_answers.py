"""Asks the kernel for the facts that a thread's state depends on. No target can make these reads wait."""

from __future__ import annotations

from collections.abc import Sequence

from threadwatch.errors import Gone, ReadError
from threadwatch.names.slots import Gil
from threadwatch.procfs import ProcessDir, parse_stat
from threadwatch.waits.reasons import (
    LETTERS,
    Ask,
    AskFd,
    AskFile,
    AskFunction,
    AskState,
    of_file,
    of_function,
    of_letter,
    of_link,
)


def ask_kernel(
    directory: ProcessDir,
    tid: int,
    ask: AskFd | AskState | AskFile | AskFunction,
    gils: Sequence[Gil],
) -> str | Ask:
    """Return the state of a thread, or what to ask next. ``gils`` are those of its process.

    :raises Gone: the thread has ended.
    :raises ReadError: the kernel refuses the answer.
    """
    if isinstance(ask, AskFd):
        try:
            return of_link(directory.task_fd_link(tid, ask.fd))
        except Gone:  # another thread has closed it
            return "other"
    if isinstance(ask, AskState | AskFile):
        letter = parse_stat(directory.read_task(tid, "stat")).state
        if isinstance(ask, AskState):
            return of_letter(letter)
        return of_file(letter, b"" if letter in LETTERS else _wchan(directory, tid))
    return of_function(ask.call, _wchan(directory, tid), gils)


def _wchan(directory: ProcessDir, tid: int) -> bytes:
    """Return the kernel function that a thread waits in; empty if the kernel hides it from us."""
    try:
        return directory.read_task(tid, "wchan")
    except ReadError:
        return b""
