"""A builder of ``/proc`` trees in a temporary directory, for tests that need exact numbers.

    tree = ProcTree(tmp_path)
    process = tree.process(4711, comm=b"gunicorn", cmdline=("gunicorn", "shop:app"))
    worker = process.thread(4713, comm=b"worker")
    worker.set(user_ticks=12, cpu_ns=120_000_000, state="R")
    worker.end()
    process.end()

``ProcFS(str(tree.root))`` reads it. Files are in the kernel's format; a process's stat, schedstat
and status follow from its threads, the ended ones included. What no directory can show is not
there: thread tables, the process clock, another owner (``uid`` stands in status alone).
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Values:
    """What the files of one thread say. None in ``cpu_ns``: the kernel has no schedstat."""

    comm: bytes = b"python3"
    state: str = "S"
    user_ticks: int = 0
    system_ticks: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    start_ticks: int = 1000
    last_cpu: int = 0
    cpu_ns: int | None = 0
    runqueue_ns: int = 0
    timeslices: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0
    read_bytes: int = 0
    write_bytes: int = 0


@dataclass(slots=True)
class ProcTree:
    """A tree at ``root``, empty at first."""

    root: Path
    processes: dict[int, Process] = field(default_factory=dict)

    def process(
        self,
        pid: int,
        *,
        ppid: int = 1,
        uid: int = 1000,
        cmdline: tuple[str, ...] = ("python3", "app.py"),
        exe: str | None = "/usr/bin/python3.11",
        cgroup: bytes = b"0::/\n",
        fds: dict[int, str] | None = None,
        nspid: tuple[int, ...] = (),
        **values: Any,
    ) -> Process:
        """Return a process and its main thread; ``values`` are those of :class:`Values`, for that thread."""
        directory = self.root / str(pid)
        (directory / "task").mkdir(parents=True)
        (directory / "cmdline").write_bytes(b"".join(os.fsencode(a) + b"\0" for a in cmdline))
        (directory / "cgroup").write_bytes(cgroup)
        if exe is not None:
            (directory / "exe").symlink_to(exe)
        (directory / "fd").mkdir()
        for number, link in (fds or {}).items():
            (directory / "fd" / str(number)).symlink_to(link)
        process = Process(directory, pid, ppid, uid, nspid[1:-1] if nspid else None)
        self.processes[pid] = process
        process.thread(pid, own_tid=nspid[-1] if nspid else pid, **values)
        return process


@dataclass(slots=True)
class Process:
    """A process of the tree."""

    directory: Path
    pid: int
    ppid: int
    uid: int
    between: tuple[int, ...] | None
    """NSpid without the first and the last; None for a process of the reader's own namespace."""
    threads: dict[int, Thread] = field(default_factory=dict)
    ended: list[Values] = field(default_factory=list)

    def thread(self, tid: int, *, own_tid: int | None = None, **values: Any) -> Thread:
        """Return one more thread; ``own_tid`` is its TID in the innermost PID namespace."""
        thread = Thread(self, tid, tid if own_tid is None else own_tid, Values())
        thread.directory.mkdir()
        self.threads[tid] = thread
        thread.set(**values)
        return thread

    def end(self) -> None:
        """End the process, and remove its directory."""
        shutil.rmtree(self.directory)

    def write(self) -> None:
        """Write its files anew: the sums over its threads."""
        every = [thread.values for thread in self.threads.values()] + self.ended
        main = self.threads[self.pid].values
        _write(
            self.directory,
            replace(
                main,
                user_ticks=sum(v.user_ticks for v in every),
                system_ticks=sum(v.system_ticks for v in every),
                minor_faults=sum(v.minor_faults for v in every),
                major_faults=sum(v.major_faults for v in every),
                read_bytes=sum(v.read_bytes for v in every),
                write_bytes=sum(v.write_bytes for v in every),
            ),
            process=self,
            tid=self.pid,
            own_tid=self.threads[self.pid].own_tid,
        )


@dataclass(slots=True)
class Thread:
    """A thread of the tree."""

    process: Process
    tid: int
    own_tid: int
    values: Values

    @property
    def directory(self) -> Path:
        """Return ``PID/task/TID``."""
        return self.process.directory / "task" / str(self.tid)

    def set(self, **values: Any) -> None:
        """Change some of :class:`Values`; the files follow, in place."""
        self.values = replace(self.values, **values)
        _write(
            self.directory, self.values, process=self.process, tid=self.tid, own_tid=self.own_tid
        )
        self.process.write()

    def end(self) -> None:
        """End the thread; what it used stays in its process's sums.

        Not for the main thread: the kernel keeps it, as a zombie, until the last one has ended.
        """
        shutil.rmtree(self.directory)
        del self.process.threads[self.tid]
        self.process.ended.append(self.values)
        self.process.write()


def _write(directory: Path, values: Values, *, process: Process, tid: int, own_tid: int) -> None:
    v = values
    threads = len(process.threads)
    stat = (
        f"{v.state} {process.ppid} {process.pid} {process.pid} 0 -1 4194304 {v.minor_faults} 0 "
        f"{v.major_faults} 0 {v.user_ticks} {v.system_ticks} 0 0 20 0 {threads} 0 {v.start_ticks} "
        "17104896 3523 18446744073709551615 1 1 0 0 0 0 0 16781312 2 0 0 0 17 "
        f"{v.last_cpu} 0 0 0 0 0 0 0 0 0 0 0 0 0"
    )
    (directory / "stat").write_bytes(b"%d (%b) %b\n" % (tid, v.comm, stat.encode()))
    (directory / "comm").write_bytes(v.comm + b"\n")
    if v.cpu_ns is not None:
        schedstat = f"{v.cpu_ns} {v.runqueue_ns} {v.timeslices}\n"
        (directory / "schedstat").write_text(schedstat, encoding="ascii")
    between = process.between
    nspid = "\t".join(map(str, (tid,) if between is None else (tid, *between, own_tid)))
    uids = "\t".join([str(process.uid)] * 4)
    name = v.comm.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    rest = (
        f"State:\t{v.state} (a word)\nTgid:\t{process.pid}\nPid:\t{tid}\nPPid:\t{process.ppid}\n"
        f"Uid:\t{uids}\nGid:\t{uids}\nNSpid:\t{nspid}\nThreads:\t{threads}\n"
        f"voluntary_ctxt_switches:\t{v.voluntary_switches}\n"
        f"nonvoluntary_ctxt_switches:\t{v.involuntary_switches}\n"
    )
    (directory / "status").write_bytes(b"Name:\t" + name + b"\n" + rest.encode())
    (directory / "io").write_text(
        f"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: {v.read_bytes}\n"
        f"write_bytes: {v.write_bytes}\ncancelled_write_bytes: 0\n",
        encoding="ascii",
    )
