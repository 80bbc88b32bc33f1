"""Samples why threads wait and who holds the GIL, between polls. Knows nothing of groups and metrics.

Rules:

* **Time is credited by the clock, not by count**: what a sample sees of a thread is credited with the time
  since the sample of that thread before. So a sample that comes late, or not at all, shifts nothing but
  detail. The first sample of a thread credits nothing.
* **What has not changed costs one read.** A thread's file ``syscall`` stays open while it is sampled, and the
  same bytes again mean the same state. Where the state depends on what a file descriptor is, that is asked
  anew once a second, because its number may be another file's by then. Where it depends on what the
  kernel is doing (``file``, ``disk``), it is asked every time.
* A thread that waits for the GIL and the one that holds it are seen by different reads, some microseconds
  apart, so one thread can be both in the same sample. Neither is corrected by the other: each is right for
  its own moment, and so both are on average.
* **Who holds the GIL** is told by the TID in its thread state (CPython 3.11 and later), else by the ident and
  the table, which can be of a thread that has just ended. It counts only if the process has that thread.
* A process that permission hides is left out: its states are those that everybody may see, without reasons.
  Each error is reported once per process.
* Where a GIL is was told before the last poll. What cannot be read there, or is no GIL, is an error only if
  it is told even now: after an exec another program has the address, and an interpreter that ends frees it.
* A process whose memory keeps us waiting is sampled without, for a while: see
  :mod:`threadwatch.reading.reader`.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping

from threadwatch.errors import Denied, Gone, ReadError
from threadwatch.model.readings import Waits
from threadwatch.model.view import ProcessKey
from threadwatch.procfs import ProcessDir, parse_syscall, read_calls
from threadwatch.procfs.marks import Lock
from threadwatch.reading.reader import GuardedReader
from threadwatch.waits.gil_holder import MemoryReads
from threadwatch.waits.kernel_answers import ask_kernel
from threadwatch.waits.reasons import Ask, AskFd, AskMemory, only_fd, reason
from threadwatch.waits.records import SampledProcess, SampledThread, Target, thread_of
from threadwatch.waits.syscalls import ways

__all__ = ["Target", "WaitSampler", "Waits"]

_KEPT_FILES = 4096
"""Files of threads that are kept open at most, each of which costs the kernel 4 KiB."""


class WaitSampler:
    """Samples when told to. Not for several threads at once. ``errors`` collects what cannot be read."""

    def __init__(
        self,
        errors: list[ReadError],
        guarded: GuardedReader,
        *,
        keep: int | None = None,
        complaints: dict[ProcessKey, set[tuple[str, str]]] | None = None,
    ) -> None:
        """``keep``: files to be kept open at most; by default, as many as there is room for.

        ``complaints``: what errors have been reported of each process, which several samplers can share.
        """
        self._complaints = {} if complaints is None else complaints
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._errors = errors
        self._keep = min(soft // 8, _KEPT_FILES) if keep is None else keep
        self._kept = 0
        self._ways = ways(os.uname().machine)
        self._guarded = guarded
        self._processes: dict[ProcessKey, SampledProcess] = {}

    def sample(self, target: Target, now_ns: int) -> None:
        """Look once at a process. ``now_ns`` is CLOCK_MONOTONIC.

        On a machine whose system calls are not known, nothing is sampled.
        """
        if not self._ways or not self._guarded.may_read(
            target.hangs, "exec", target.owner_uid, now_ns
        ):
            return
        process = self._processes.get(target.key)
        if process is None:
            complaints = self._complaints.setdefault(target.key, set())
            process = self._processes[target.key] = SampledProcess(complaints)
        if process.denied:
            return
        process.begin(target.gils, now_ns)
        try:
            self._read_threads(process, target, now_ns)
        except Denied as error:
            self._complain(process, error)
            self._drop(process, list(process.threads.values()))
            process.denied = True
            return
        if process.gils or process.asks:
            self._read_memory(process, target, now_ns)
        process.sampled_ns = now_ns

    def go_on_without(self, target: Target, lock: Lock, now_ns: int) -> None:
        """The process keeps the thread waiting that samples it."""
        process = self._processes.get(target.key)
        if process is None:
            return
        if lock == "memory":
            process.memory = None
            _guess(process)
            process.sampled_ns = now_ns
        else:
            self.forget(target.key)

    def take(self, key: ProcessKey) -> Mapping[int, Waits]:
        """What has been seen of the process's threads since this was last asked, by TID.

        Nothing of a process that permission hides. Of a thread that has not been sampled, but has held a
        GIL, :attr:`Waits.times` is empty.
        """
        process = self._processes.get(key)
        return {} if process is None or process.denied else process.take()

    def forget(self, key: ProcessKey) -> None:
        """The process has gone or rests: let go of it. What has not been taken is lost."""
        process = self._processes.pop(key, None)
        if process is not None:
            self._drop(process, list(process.threads.values()))

    def close(self) -> None:
        """Let go of everything."""
        for key in list(self._processes):
            self.forget(key)

    def _read_threads(self, process: SampledProcess, target: Target, now_ns: int) -> None:
        listed = tuple(target.tids)
        if listed != process.listed:
            self._follow(process, target.dir, listed, now_ns)
        kept, others = process.kept, process.others
        raws = _read_calls(process, target.dir)
        looked = [
            (thread, raw)
            for thread, raw in zip((*kept, *others) if others else kept, raws, strict=True)
            if raw != thread.raw
        ]
        for thread, raw in looked:
            try:
                if not isinstance(raw, bytes):
                    raise raw
                self._look(process, target, thread, raw)
            except Gone:
                self._drop(process, [thread])
            except Denied:
                raise
            except (
                ReadError
            ) as error:  # for want of memory or descriptors, perhaps: the next sample may do
                self._complain(process, error)
                thread.raw = b""
                thread.see("other", process.sampled_ns)

    def _follow(
        self, process: SampledProcess, directory: ProcessDir, listed: tuple[int, ...], now_ns: int
    ) -> None:
        """Sample these threads from now on, and no others."""
        process.listed = listed
        wanted = set(listed)
        self._drop(process, [t for tid, t in process.threads.items() if tid not in wanted])
        for tid in listed:
            if tid in process.threads or tid in process.left:
                continue
            file = None
            if self._kept < self._keep:
                try:
                    file = directory.open_task_file(tid, "syscall")
                    self._kept += 1
                except Gone:
                    continue
                except Denied:
                    raise
                except ReadError as error:
                    self._complain(process, error)
            process.add(SampledThread(tid, file, now_ns))

    def _look(
        self, process: SampledProcess, target: Target, thread: SampledThread, data: bytes
    ) -> None:
        """See why a thread waits, by what its file says. Raises :class:`Gone`."""
        try:
            call = parse_syscall(data)
        except ReadError as error:
            self._complain(process, error)
            thread.see("other", process.sampled_ns)
            return
        thread.raw = data
        answer = "running" if call is None else reason(call, self._ways, process.gils)
        self._settle(process, target, thread, answer)

    def _settle(
        self, process: SampledProcess, target: Target, thread: SampledThread, answer: str | Ask
    ) -> None:
        """Ask until the reason is known, or the process's memory has to be read first."""
        try:
            while not isinstance(answer, str):
                if isinstance(answer, AskMemory):
                    process.perishable.append(thread)
                    process.asks.append((thread, answer))
                    return
                if isinstance(answer, AskFd):
                    process.perishable.append(thread)
                else:
                    thread.raw = b""
                answer = ask_kernel(target.dir, thread.tid, answer, process.gils)
        except Denied as error:
            self._complain(process, error)
            answer = "sleeping"
            thread.raw = b""
        except ReadError as error:
            self._complain(process, error)
            answer = "other"
            thread.raw = b""
        thread.see(answer, process.sampled_ns)

    def _read_memory(self, process: SampledProcess, target: Target, now_ns: int) -> None:
        """Read what is in the process's memory: who holds the GILs, and what is polled for."""
        hangs = target.hangs
        if hangs.memory.is_stuck(now_ns):
            self._complain(process, ReadError("gil", "timeout", "its memory cannot be read"))
        job = None
        if not process.memory_denied and self._guarded.may_read(
            hangs, "memory", target.owner_uid, now_ns
        ):
            try:
                job = _read_job(process, target)
            except Gone:
                pass
            except ReadError as error:
                self._complain(process, error)
                process.memory_denied = isinstance(error, Denied)
        if job is None:
            _guess(process)
            return
        process.memory = None if job.gone else job.memory
        if job.gone:  # the program: there may be another one (exec)
            _guess(process)
            return
        if job.error is not None and job.failed is not None and target.still_tells(job.failed):
            self._complain(process, job.error)
        for number, holder in enumerate(job.holders):
            if holder is not None:
                process.see_holder(number, thread_of(holder, target, process), now_ns)
        for (thread, ask), memory in zip(process.asks, job.answers, strict=True):
            try:
                answer = "poll" if memory is None else only_fd(ask, memory)
                self._settle(process, target, thread, answer)
            except Gone:
                self._drop(process, [thread])

    def _drop(self, process: SampledProcess, threads: list[SampledThread]) -> None:
        if threads:
            self._kept -= process.drop(threads)

    def _complain(self, process: SampledProcess, error: ReadError) -> None:
        if (error.source, error.reason) not in process.complaints:
            process.complaints.add((error.source, error.reason))
            self._errors.append(error)


def _read_calls(process: SampledProcess, directory: ProcessDir) -> list[bytes | Gone | ReadError]:
    """The files ``syscall`` of its threads, first those that are kept open; or why one cannot be read."""
    raws: list[bytes | Gone | ReadError] = []
    for thread, data in zip(process.kept, read_calls(process.fds), strict=True):
        raws.append(_read_call(thread, directory) if data is None else data)
    raws += [_read_call(thread, directory) for thread in process.others]
    return raws


def _read_call(thread: SampledThread, directory: ProcessDir) -> bytes | Gone | ReadError:
    try:
        if thread.file is not None:
            return thread.file.read()
        return directory.read_task(thread.tid, "syscall")
    except (Gone, ReadError) as error:
        return error


def _read_job(process: SampledProcess, target: Target) -> MemoryReads:
    """What the process's memory says. Raises :class:`Gone` and :class:`ReadError` if it cannot be opened."""
    memory = process.memory or target.dir.open_memory()
    job = MemoryReads(memory, process.gils, [ask for _, ask in process.asks])
    job.run()
    return job


def _guess(process: SampledProcess) -> None:
    """The memory cannot be read: threads that poll are in ``poll``."""
    for thread, _ in process.asks:
        thread.see("poll", process.sampled_ns)
