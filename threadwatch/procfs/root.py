"""Reads a procfs as a whole: its processes, and their CPU clocks.

The rules for opening files there are in :mod:`threadwatch.procfs.reader`.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
from contextlib import suppress

from threadwatch.errors import Malformed, Unusable
from threadwatch.procfs.handles import PAGE, close, failure, translated
from threadwatch.procfs.reader import ProcessDir
from threadwatch.procfs.stat import parse_stat
from threadwatch.procfs.status import parse_status

_READ = os.O_RDONLY | os.O_CLOEXEC
_KEEP = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class ProcFS:
    """A procfs, or a captured tree of one.

    :raises Unusable: there is no procfs at ``root``.
    """

    def __init__(self, root: str = "/proc") -> None:
        self.root = root
        self.same_namespace = _own_namespace(root)
        """Whether PIDs here are the ones that system calls take: only then may
        :meth:`process_clock_ns` be asked. False for another PID namespace's procfs."""
        if not self.same_namespace:
            _check_usable(root)
        self._last_pid = _LastPid(root) if self.same_namespace else None
        self._counts_pids: bool | None = None
        """Whether loadavg shows this namespace's PIDs; None: not tried yet."""

    def pids(self) -> list[int]:
        """Return the PIDs of all visible processes."""
        with translated("proc"):
            return [int(name) for name in os.listdir(self.root) if name.isdecimal()]

    def last_pid(self) -> int | None:
        """Return the last PID or TID given out in our PID namespace: field 5 of loadavg.

        None if that is unknown: a container may have another file there (lxcfs), with the host's
        numbers, or a kernel that keeps none (gVisor). While the number stays the same, no process
        has been born.
        """
        if self._counts_pids is None:
            # Twice more: the numbers may begin anew just then.
            self._counts_pids = any(self._counts_our_thread() for _ in range(3))
        return self._read_last_pid() if self._counts_pids else None

    def _counts_our_thread(self) -> bool:
        """Return whether loadavg shows the TID of a thread that starts here."""
        before = self._read_last_pid()
        tid = _tid_of_a_thread() if before is not None else None
        after = self._read_last_pid() if tid is not None else None
        return (
            before is not None and tid is not None and after is not None and before < tid <= after
        )

    def _read_last_pid(self) -> int | None:
        return self._last_pid.read() if self._last_pid is not None else None

    def is_process(self, pid: int) -> bool:
        """Return whether a number of our PID namespace is a PID; it can also be a TID, or unused."""
        try:
            time.clock_gettime_ns((~pid << 3) | 2)
        except OSError:
            return False
        return True

    def open_process(self, pid: int) -> ProcessDir:
        """Return the process that has this PID now. Raises :class:`Gone` if there is none."""
        try:
            return ProcessDir(pid, os.open(f"{self.root}/{pid}", _KEEP))
        except OSError as error:
            raise failure(error, "process") from None

    def process_clock_ns(self, pid: int) -> int:
        """Return the CPU time in ns of all the process's threads in its life, ended ones included.

        Only the PID identifies the process: a caller who has kept the PID for a while must make
        sure, by reading from the :class:`ProcessDir` afterwards, that it is still the same process.
        The clock's number is that of clock_getcpuclockid(3). The result is meaningless unless
        :attr:`same_namespace`.
        """
        try:
            return time.clock_gettime_ns((~pid << 3) | 2)
        except OSError as error:
            raise failure(error, "clock") from None


class _LastPid:
    """Field 5 of loadavg (proc_loadavg(5)). The file is kept open, because each poll reads it."""

    __slots__ = ("_fd",)

    def __init__(self, root: str) -> None:
        self._fd = -1
        with suppress(OSError):
            self._fd = os.open(f"{root}/loadavg", _READ)
            if os.fstat(self._fd).st_dev != os.stat(root).st_dev:  # another file is mounted there
                self._fd = close(self._fd)

    def read(self) -> int | None:
        """Return the number; None if there is none."""
        if self._fd < 0:
            return None
        try:
            return int(os.pread(self._fd, PAGE, 0).split()[4])
        except (OSError, ValueError, IndexError):
            return None

    def __del__(self) -> None:
        close(self._fd)


def _tid_of_a_thread() -> int | None:
    """Return the TID of a new thread; None if no thread can be started."""
    tids: list[int] = []
    told = threading.Lock()
    told.acquire()

    def tell() -> None:
        tids.append(threading.get_native_id())
        told.release()

    try:
        _thread.start_new_thread(tell, ())  # a bare thread: it is not published
    except RuntimeError:
        return None
    told.acquire()
    return tids[0]


def _own_namespace(root: str) -> bool:
    """Return whether ``root`` shows this process under its own PID."""
    pid = os.getpid()
    try:
        if os.readlink(f"{root}/self") != str(pid):
            return False
        with open(f"{root}/self/status", "rb") as file:
            nspid = parse_status(file.read()).nspid
    except (OSError, Malformed):
        return False
    # The PIDs from the procfs's namespace down to ours: by chance the first could be equal to ours.
    return nspid in ((), (pid,))


def _check_usable(root: str) -> None:
    path = f"{root}/self/stat"
    try:
        with open(path, "rb") as file:
            parse_stat(file.read())
    except (OSError, Malformed) as error:
        # Neither a captured tree nor the procfs of an unrelated namespace has "self".
        with suppress(OSError):
            if any(
                name.isdecimal() and os.path.exists(f"{root}/{name}/stat")
                for name in os.listdir(root)
            ):
                return
        why = error.strerror if isinstance(error, OSError) else "is not a line of stat"
        in_container = "" if root == "/proc" else f"; into a container: -v /proc:{root}:ro"
        raise Unusable(
            f"{root} is not mounted: {path}: {why}; mount a procfs there "
            f"(mount -t proc proc {root}{in_container}) or name another with --path.procfs"
        ) from None
