"""Holds one thread of another process still for a moment (ptrace(2), PTRACE_SEIZE).

A thread that is held does not end, so its state stays where it is, and does not change. The other threads
run on. A system call that the thread waits in goes on afterwards, but for those that every stop ends with
EINTR (signal(7)): epoll_wait(2) and a few more, which CPython begins again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from threadwatch.errors import Denied, Gone, ReadError, Unusable

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000
_EVENT_STOP = 128
_DEADLINE_S = 3.0
"""A thread stops at once, unless it waits in a call that nothing interrupts (for a disk, a vfork)."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Make signals that would end us wait until the block inside is done, which is short."""
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def held(tid: int) -> Iterator[None]:
    """Keep the thread from running inside, and make signals to us wait.

    To be used by one thread of ours: the kernel knows which one holds it.

    :raises Gone: the thread has ended.
    :raises Denied: the kernel refuses, or another holds it already.
    :raises Unusable: it does not stop. It is to be given up then: the kernel lets go of it when we end.
    """
    with undisturbed():
        _ptrace(_SEIZE, tid)
        on_its_way = 0
        try:
            _ptrace(_INTERRUPT, tid)
            on_its_way = _await_stop(tid)
            yield
        finally:
            with suppress(Gone):  # or it has not stopped
                _ptrace(_DETACH, tid, on_its_way)


def _await_stop(tid: int) -> int:
    """Wait until the thread has stopped; return the signal that was on its way to it, 0: none."""
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        try:
            found, status = os.waitpid(tid, os.WNOHANG | _WALL)
        except ChildProcessError:
            raise Gone("ptrace: the thread has ended") from None
        if not found:
            time.sleep(0.0001)
        elif not os.WIFSTOPPED(status):
            raise Gone("ptrace: the thread has ended")
        else:
            return 0 if status >> 16 == _EVENT_STOP else os.WSTOPSIG(status)
    raise Unusable(f"thread {tid} does not stop: it is in the middle of what nothing interrupts")


def _ptrace(request: int, tid: int, data: int = 0) -> None:
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    call.restype = ctypes.c_long
    if call(request, tid, None, data or None) == -1:
        number = ctypes.get_errno()
        if number == errno.ESRCH:
            raise Gone("ptrace: the thread has ended")
        if number in (errno.EPERM, errno.EACCES):
            raise Denied("ptrace")
        raise ReadError("ptrace", errno.errorcode.get(number, str(number)).lower())
