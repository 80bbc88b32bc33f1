"""Reads each process once, in the same way as the daemon does, and notes the kernel's answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from threadwatch.doctor.evidence import evidence_of
from threadwatch.doctor.findings import (
    UNPUBLISHED,
    Access,
    Cause,
    Daemon,
    Finding,
    GilState,
    LoopsFound,
    NotRead,
    TableState,
    cause_of,
)
from threadwatch.doctor.handed import was_sent
from threadwatch.doctor.loops import loops_of
from threadwatch.doctor.reasons import reason
from threadwatch.doctor.situation import Situation
from threadwatch.doctor.threads import labels_of, learn_names, living_threads, nameless
from threadwatch.doctor.unread_table import state_of_table
from threadwatch.errors import Denied, Gone, ReadError
from threadwatch.model.keys import Source
from threadwatch.names.memory.gils import find_gils
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.names.slots import TableHeader
from threadwatch.procfs import MemoryFile, ProcFS, parse_syscall
from threadwatch.procfs.credentials import parse_credentials
from threadwatch.procfs.marks import Lock
from threadwatch.reading.reader import GuardedReader, no_thread, owner_of, still_waiting
from threadwatch.targets.process import Process
from threadwatch.waits.gil_holder import MemoryReads
from threadwatch.words.wording import interpreter


def examine(
    procfs: ProcFS,
    situation: Situation,
    guarded: GuardedReader,
    processes: Iterable[Process],
    daemons: Sequence[Daemon],
) -> tuple[Finding, ...]:
    """Read each of the processes once; leave out those that end meanwhile. ``daemons``: those that run."""
    findings = []

    def look(watched: Process) -> None:
        with suppress(Gone, Denied):  # Denied: it has only just become another user's
            findings.append(_Examination(procfs, situation, guarded, watched, daemons).run())

    def go_on_without(watched: Process, lock: Lock) -> None:
        now_ns = time.monotonic_ns()
        guarded.give_up(watched.hangs, lock, owner_of(watched.dir), now_ns)
        if lock == "memory":
            stuck.append(watched)
        else:
            findings.append(_hanging(watched, still_waiting(watched.key.pid)))

    stuck: list[Process] = []
    guarded.run_all(
        processes,
        look,
        go_on_without,
        left_out=lambda watched: findings.append(_hanging(watched, no_thread())),
    )
    guarded.run_all(list(stuck), look, go_on_without)  # their memory is not read again
    return tuple(findings)


def _hanging(watched: Process, why: ReadError) -> Finding:
    """Return the finding about a process that cannot be read, usually because its reads hang."""
    header = watched.tables.header
    return Finding(
        pid=watched.key.pid,
        uid=watched.facts.uid,
        application=watched.membership.group,
        cmdline=watched.facts.cmdline,
        interpreter=_interpreter(header, None, watched),
        table="none" if header is None else "found",
        gil="unknown",
        names="no",
        states="no",
        memory="no",
        cause=None,
        detail=str(why),
    )


class _Examination:
    """The examination of one process."""

    def __init__(
        self,
        procfs: ProcFS,
        situation: Situation,
        guarded: GuardedReader,
        watched: Process,
        daemons: Sequence[Daemon],
    ) -> None:
        self._gid: int | None = None
        self._procfs = procfs
        self._situation = situation
        self._watched = watched
        self._dir = watched.dir
        self._guarded = guarded
        self._denied: set[str] = set()
        self._details: list[str] = []
        self._source: Source = "comm"
        self._not_read: NotRead | None = None
        self._daemons = daemons
        self._loops = LoopsFound()
        self._gil_in_memory: GilState = "unknown"

    def run(self) -> Finding:
        """Examine it. Raises :class:`Gone` if the process has ended."""
        watched = self._watched
        if watched.tables.searching:  # the daemon takes several polls for this many files
            with suppress(ReadError):
                watched.tables.find(self._dir, None)
        header = watched.tables.header
        exe = self._exe()
        state = self._table() if header is None else "found"
        names: Access = "hidden" if state == "hidden" else "no"
        states = self._access(self._states)
        memory = self._access(self._read_memory)
        if header is not None:
            names = self._access(self._names)
        elif memory == "hidden":
            self._not_read = "hidden"
        why = None
        if state in UNPUBLISHED:
            why = reason(evidence_of(self._procfs, watched), state)
        threads = living_threads(watched)
        if self._source == "memory":
            learn_names(watched, threads)
        found = Finding(
            pid=watched.key.pid,
            uid=watched.facts.uid,
            application=watched.membership.group,
            cmdline=watched.facts.cmdline,
            interpreter=_interpreter(header, exe, watched),
            table=state,
            gil=self._gil(header),
            names=names,
            states=states,
            memory=memory,
            cause=self._cause() if self._denied else None,
            gid=self._gid,
            detail="; ".join(dict.fromkeys(self._details)),
            reason=why,
            nameless={} if header is None else nameless(watched, header, threads),
            labels=labels_of(watched, threads),
            source=self._source if header is None else "published",
            not_read=self._not_read,
            loops=LoopsFound(why_none="hidden") if memory == "hidden" else self._loops,
            handed_over=header is not None and self._was_sent(),
            held_by=tuple(one.pid for one in self._daemons if self._is_held_by(one)),
        )
        self._dir.owner_uid()  # of a process that has ended since, some of it is wrong
        return found

    def _access(self, read: Callable[[], Access]) -> Access:
        try:
            return read()
        except Denied as error:
            self._denied.add(error.source)
            return "hidden"
        except ReadError as error:
            self._details.append(str(error))
            return "no"

    def _exe(self) -> str | None:
        """Return the program. An obstacle is noted for :meth:`_cause`, and is no harm in itself."""
        try:
            return self._dir.exe()
        except ReadError as error:
            if isinstance(error, Denied):
                self._denied.add(error.source)
            return None

    def _table(self) -> TableState:
        """Return why no table of the process's own has been found."""
        try:
            return state_of_table(self._watched, self._details)
        except Denied as error:
            self._denied.add(error.source)
            return "hidden"
        except ReadError as error:
            self._details.append(str(error))
            return "malformed"

    def _names(self) -> Access:
        try:
            self._watched.tables.read(self._dir)
        except ReadError as error:
            # As much as there was room for has been read; ``nameless`` tells which threads have no
            # name.
            if error.reason not in ("overflow", "enospc"):
                raise
            if error.reason == "enospc":
                self._details.append(str(error))
        return "yes"

    def _was_sent(self) -> bool:
        try:
            return was_sent(self._watched)
        except ReadError:
            return False

    def _is_held_by(self, daemon: Daemon) -> bool:
        return any(self._watched.tables.follows(inode) for inode in daemon.tables or ())

    def _gil(self, header: TableHeader | None) -> GilState:
        if header is None:
            return self._gil_in_memory
        if self._watched.names.gils:
            return "found"
        return "free-threaded" if header.free_threaded else "not found"

    def _states(self) -> Access:
        """Return whether the system calls of its threads can be read."""
        if not self._situation.wait_reasons:
            return "no"
        for tid in self._dir.tids():
            try:
                parse_syscall(self._dir.read_task(tid, "syscall"))
            except Gone:
                if self._dir.has_task(tid):  # a kernel without CONFIG_HAVE_ARCH_TRACEHOOK
                    raise ReadError("syscall", "enoent", "this kernel does not offer it") from None
                continue
            return "yes"
        raise Gone("task: all threads have ended")

    def _read_memory(self) -> Access:
        """Return whether the memory may be read; if a GIL is known, whether it shows the holder."""
        try:
            file = self._dir.open_memory()
        except Gone:
            return "no"
        hangs, now_ns = self._watched.hangs, time.monotonic_ns()
        if not self._guarded.may_read(hangs, "memory", self._dir.owner_uid, now_ns):
            raise ReadError("mem", "timeout", "it, or others of its user, give no answer")
        self._loops = loops_of(self._watched, file)
        if self._watched.tables.header is None:
            if self._watched.membership.config.names_from_memory:
                return self._read_names(file)
            self._not_read = "forbidden"
        job = MemoryReads(file, self._watched.names.gils, ())
        job.run()
        if job.error is not None and job.failed is not None:
            if not self._watched.names.still_tells(self._dir, job.failed):
                return "no"  # it has become another program
            raise job.error
        return "no" if job.gone else "yes"

    def _read_names(self, memory: MemoryFile) -> Access:
        """Return whether the memory can be read, and note whether a Python and its GIL are found there."""
        try:
            auxv = self._dir.read("auxv", "auxv")
            snapshot = Snapshot(memory, FIRST_LOOK)
            python = find_python(snapshot, auxv, self._watched.ns_pid)
            gils = find_gils(snapshot, python)
        except Gone:
            return "no"
        except Denied:
            raise
        except ReadError as error:
            self._details.append(str(error))
            self._not_read = "failed"
        else:
            self._source = "memory"
            if gils:
                self._gil_in_memory = "found"
            elif python.offsets.free_threaded:
                self._gil_in_memory = "free-threaded"
        return "yes"

    def _cause(self) -> Cause:
        try:
            credentials = parse_credentials(self._dir.read("status", "status"))
        except ReadError as error:
            self._details.append(str(error))
            return "refused"
        self._gid = credentials.gids[1]
        return cause_of(
            self._situation,
            credentials,
            files_owner=self._dir.files_owner(),
            denied=self._denied,
        )


def _interpreter(header: TableHeader | None, exe: str | None, watched: Process) -> str:
    if header is not None:
        return interpreter(header.implementation, header.python)
    path = exe or (watched.facts.cmdline[0] if watched.facts.cmdline else watched.facts.comm)
    return path.removesuffix(" (deleted)").rpartition("/")[2] or watched.facts.comm
