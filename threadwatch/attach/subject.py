"""Checks a process that is to be asked, before anything in it is changed.

The process's directory in ``/proc`` is kept open, and its memory is that of the program that runs now.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from threadwatch.attach.interpreter import Interpreter, Thread
from threadwatch.attach.memory import Memory, Region, parse_writable
from threadwatch.attach.offsets import SIZES
from threadwatch.errors import Denied, Gone, Malformed, ReadError, Unsupported, Unusable
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.names.memory.walk import Python
from threadwatch.names.ownership import check_owner, clocks_ahead
from threadwatch.names.slots import parse_header
from threadwatch.procfs import (
    ProcessDir,
    ProcFS,
    find_tables,
    is_kernel_thread,
    parse_stat,
    parse_status,
)
from threadwatch.procfs.fields import find_line
from threadwatch.procfs.own import read_setting

_KEEP = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_MAPS = 1 << 24
_TRIES, _BETWEEN_TRIES_S = 10, 0.02
_FREE_THREADED = "runs without the GIL, which attaching has not been tried with"


class Subject:
    """A process that runs on CPython 3.14 or later, and may be asked. Close it, or use it in ``with``.

    :raises Unusable: it cannot be asked; in one line, why not and what can be done.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        procfs = ProcFS()
        if not procfs.same_namespace:
            raise Unusable(
                "/proc is another PID namespace's, so it is not known which process is meant"
            )
        try:
            self.directory = os.open(f"{procfs.root}/{pid}", _KEEP)
        except OSError as error:
            raise Unusable(f"there is no process {pid}, or it cannot be seen") from error
        self.process = ProcessDir(pid, self.directory)
        try:
            with self.explained():
                self._look()
        except BaseException:  # whatever ends this, Ctrl-C too: its files are closed
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        self.process.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise :class:`Unusable` for errors inside."""
        try:
            yield
        except Gone:
            why = f"process {self.pid} has ended"
        except Denied:
            why = f"the kernel does not let you change process {self.pid}: be its user, or root"
            scope = read_setting("/proc", "sys/kernel/yama/ptrace_scope").strip()
            if scope not in (b"", b"0"):
                why += f" (kernel.yama.ptrace_scope is {scope.decode()}: be root)"
        except ReadError as error:
            why = f"process {self.pid} cannot be asked: {error}"
        else:
            return
        raise Unusable(why)

    def _look(self) -> None:
        status = self.process.read("status", "status")
        self._see_that_it_runs(status)
        parsed = parse_status(status)
        self._ns_pid = parsed.nspid[-1] if parsed.nspid else self.pid
        self.uid = parsed.uids[3]
        """Its file system user."""
        self.is_filtered = any(self._is_filtered(tid) for tid in self.process.tids())
        """Whether one of its threads has a seccomp filter. What that does cannot be seen."""
        self.memory = Memory.open(self.directory)
        python = self._find_python()
        hexversion = python.hexversion
        self.version = hexversion >> 24, hexversion >> 16 & 0xFF, hexversion >> 8 & 0xFF
        """The version of its CPython."""
        self._check_version(free_threaded=python.offsets.free_threaded)
        self.interpreter = Interpreter(
            self.memory, self._regions(), python.runtime, self.version[1]
        )
        if not self.interpreter.runs_scripts():
            raise Unusable(
                f"process {self.pid} has this switched off (PYTHON_DISABLE_REMOTE_DEBUG, "
                "-X disable-remote-debug, or a Python built without): restart it without that, or by "
                "`threadwatch run`"
            )
        if self.interpreter.is_ending():
            raise Unusable(f"process {self.pid} is at its end")
        self.interpreter.threads()

    def _see_that_it_runs(self, status: bytes) -> None:
        data = self.process.read("stat", "stat")
        stat = parse_stat(data)
        self._start_ticks = stat.start_ticks
        if is_kernel_thread(data):
            raise Unusable(f"process {self.pid} is a thread of the kernel")
        if stat.state in "ZX":
            raise Gone("stat: the process has ended")
        tracer = find_line(status, b"TracerPid:\t")
        if tracer not in (None, b"0"):
            by = os.fsdecode(tracer or b"")
            raise Unusable(
                f"process {self.pid} is held by process {by}, a debugger or strace: end that first"
            )
        if stat.state in "Tt":
            raise Unusable(
                f"process {self.pid} is stopped: let it go on first (kill -CONT {self.pid})"
            )

    def _is_filtered(self, tid: int) -> bool:
        with suppress(Gone):
            status = self.process.read_task(tid, "status")
            return find_line(status, b"Seccomp:\t") == b"2"
        return False

    def _find_python(self) -> Python:
        """Find its Python, which may be in the middle of something."""
        for _ in range(_TRIES - 1):
            try:
                return self._look_for_python()
            except Unsupported:
                break
            except ReadError:
                time.sleep(_BETWEEN_TRIES_S)
        try:
            return self._look_for_python()
        except Unsupported as error:
            why = f"process {self.pid} has no Python in it that can be attached to: {error.detail}"
            raise Unusable(why) from None

    def _look_for_python(self) -> Python:
        auxv = self.process.read("auxv", "auxv")
        return find_python(Snapshot(self.memory, FIRST_LOOK), auxv, self._ns_pid)

    def _check_version(self, *, free_threaded: bool) -> None:
        python = f"process {self.pid} runs on CPython {'.'.join(map(str, self.version))}"
        if self.version[:2] < (3, 14):
            raise Unusable(
                f"{python}, and only from 3.14 on a process can be attached to: restart it by "
                "`threadwatch run`"
            )
        if self.version[1] not in SIZES:
            raise Unusable(f"{python}, which this version of threadwatch does not know")
        if free_threaded:
            raise Unusable(f"{python} and {_FREE_THREADED}; restart it by `threadwatch run`")

    def _regions(self) -> tuple[Region, ...]:
        return parse_writable(self.process.read_maps("maps", _MOST_MAPS))

    def publishes(self) -> bool:
        """Return whether its main interpreter has a table that a daemon believes.

        :raises Gone: it has ended.
        """
        ahead_ns = clocks_ahead(self.process).boottime_ns
        for fd in find_tables(self.process):
            with suppress(Gone, Malformed), self.process.open_table(fd) as file:
                header = parse_header(file.read_header()).by_our_clock(ahead_ns, self._start_ticks)
                if header.names(self._ns_pid, self._start_ticks) and not (
                    header.closed or header.interpreter > 0
                ):
                    check_owner(self.process, file)
                    return True
        self.see_that_it_lives()
        return False

    def see_that_it_lives(self) -> None:
        """Raise :class:`Gone` unless the process lives."""
        if parse_stat(self.process.read("stat", "stat")).state in "ZX":
            raise Gone("stat: the process has ended")

    def threads(self) -> dict[int, Thread]:
        """Return the threads that Python knows, by TIDs as we see them, with all that asking them needs."""
        self.interpreter.regions = self._regions()
        by_ns_tid = {thread.ns_tid: thread for thread in self.interpreter.threads()}
        if self._ns_pid == self.pid:
            tids = {tid: tid for tid in self.process.tids()}
        else:
            tids = {}
            for tid in self.process.tids():
                with suppress(Gone):
                    nspid = parse_status(self.process.read_task(tid, "status")).nspid
                    tids[nspid[-1] if nspid else tid] = tid
        return {tids[ns]: thread for ns, thread in by_ns_tid.items() if ns in tids}
