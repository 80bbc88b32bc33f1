"""Makes the CPU clocks of idle processes cheap to read, by a timer that never fires.

To read a process's CPU clock, the kernel walks all its threads. But while a POSIX CPU timer runs on
that clock, the kernel keeps a sum, and reading takes the same time for a process of any size
(kernel/time/posix-cpu-timers.c, thread_group_sample_cputime()). The sum grows at the same moments
as the threads' own clocks (kernel/sched/cputime.c, account_group_exec_runtime()). A timer started
while the process rests is exact. Started while threads run, it can miss up to one tick per thread,
once.

The price: while such a timer exists, each thread of the process adds to the sum at each of its
ticks and context switches. So only two kinds of processes have one: a process at rest, which pays
nothing, and one of whose threads hardly any run. The timers belong to the daemon: they end with it,
however it ends, and the target's own timers do not change.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from functools import cache
from typing import Final

_NEVER: Final = struct.pack("@4l", 0, 0, 1 << 30, 0)
"""``struct itimerspec`` (itimerspec(3type)): once, after 34 years of CPU time."""
_SIGNAL: Final = struct.pack("@Pii48x", 0, signal.SIGURG, 0)
"""``struct sigevent`` (sigevent(3type)) with SIGEV_SIGNAL: we would get a signal that is ignored by
default. With SIGEV_NONE the kernel would not run the timer at all."""


class CpuTimer:
    """A timer on a process's CPU clock, which makes the clock cheap as long as it exists."""

    __slots__ = ("_timer",)

    def __init__(self, pid: int) -> None:
        """Raise :class:`OSError` if the kernel refuses; then the clock costs what it cost before."""
        timer = ctypes.c_void_p()
        _check(_library().timer_create((~pid << 3) | 2, _SIGNAL, ctypes.byref(timer)))
        self._timer: ctypes.c_void_p | None = timer
        try:
            _check(_library().timer_settime(timer, 0, _NEVER, None))
        except OSError:
            self.delete()
            raise

    def delete(self) -> None:
        """Delete the timer. May be called twice."""
        timer, self._timer = self._timer, None
        if timer is not None:
            _library().timer_delete(timer)


@cache
def _library() -> ctypes.CDLL:
    """Return the C library, or librt, which had its timers before glibc 2.34."""
    library = ctypes.CDLL(None, use_errno=True)
    return (
        library if hasattr(library, "timer_create") else ctypes.CDLL("librt.so.1", use_errno=True)
    )


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
