"""A procfs as a whole: which processes it shows, and their CPU clocks.

Rules for whatever opens files there are in :mod:`threadwatch.procfs.reader`.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from threadwatch.errors import Malformed, Unusable
from threadwatch.procfs.handles import PAGE, failure, translated
from threadwatch.procfs.reader import ProcessDir
from threadwatch.procfs.stat import parse_stat
from threadwatch.procfs.status import parse_status

_READ = os.O_RDONLY | os.O_CLOEXEC
_KEEP = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class ProcFS:
    """A procfs, or a captured tree of one.

    :raises Unusable: there is none at ``root``.
    """

    def __init__(self, root: str = "/proc") -> None:
        self.root = root
        self.same_namespace = _own_namespace(root)
        """Whether PIDs here are the ones that system calls take: then, and only then,
        :meth:`process_clock_ns` may be asked. False for another PID namespace's procfs."""
        if not self.same_namespace:
            _check_usable(root)

    def pids(self) -> list[int]:
        """The PIDs of all processes that can be seen."""
        with translated("proc"):
            return [int(name) for name in os.listdir(self.root) if name.isdecimal()]

    def last_pid(self) -> int | None:
        """The PID or TID that was given out last in our PID namespace: field 5 of loadavg.

        None where that is not to be had. While it stays the same, no process has been born.
        """
        if not self.same_namespace:
            return None
        try:
            fd = os.open(f"{self.root}/loadavg", _READ)
            try:
                return int(os.read(fd, PAGE).split()[4])
            finally:
                os.close(fd)
        except (OSError, ValueError, IndexError):
            return None

    def is_process(self, pid: int) -> bool:
        """Whether a number of our PID namespace is a PID; it can be a TID, or nobody's."""
        try:
            time.clock_gettime_ns((~pid << 3) | 2)
        except OSError:
            return False
        return True

    def open_process(self, pid: int) -> ProcessDir:
        """The process that has this PID now. Raises :class:`Gone` if there is none."""
        try:
            return ProcessDir(pid, os.open(f"{self.root}/{pid}", _KEEP))
        except OSError as error:
            raise failure(error, "process") from None

    def process_clock_ns(self, pid: int) -> int:
        """CPU time in ns of all the process's threads in its life, the ended ones too.

        It knows the PID alone: a caller who has kept the PID for a while must make sure, by reading
        from the :class:`ProcessDir` afterwards, that it is still the same process. The clock's
        number is that of clock_getcpuclockid(3). Meaningless unless :attr:`same_namespace`.
        """
        try:
            return time.clock_gettime_ns((~pid << 3) | 2)
        except OSError as error:
            raise failure(error, "clock") from None


def _own_namespace(root: str) -> bool:
    """Whether ``root`` shows this process, by the PID that it knows itself by."""
    pid = os.getpid()
    try:
        if os.readlink(f"{root}/self") != str(pid):
            return False
        with open(f"{root}/self/status", "rb") as file:
            nspid = parse_status(file.read()).nspid
    except (OSError, Malformed):
        return False
    # the PIDs from the procfs's namespace down to ours: by chance the first could be equal to ours
    return nspid in ((), (pid,))


def _check_usable(root: str) -> None:
    path = f"{root}/self/stat"
    try:
        with open(path, "rb") as file:
            parse_stat(file.read())
    except (OSError, Malformed) as error:
        # neither a captured tree nor the procfs of a namespace that is not around us has "self"
        with suppress(OSError):
            if any(
                name.isdecimal() and os.path.exists(f"{root}/{name}/stat")
                for name in os.listdir(root)
            ):
                return
        why = error.strerror if isinstance(error, OSError) else "is not a line of stat"
        raise Unusable(
            f"{root} is not mounted: {path}: {why}; "
            f"mount a procfs there (mount -t proc proc {root}) or name another with --path.procfs"
        ) from None
