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
* No target can block or fool the daemon: what is read here is the kernel's own, and the rest is read by
  :mod:`threadwatch.memory`.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping

from threadwatch.errors import Denied, Gone, ReadError
from threadwatch.memory import Conduct, Job, MemoryReader
from threadwatch.model import ProcessKey
from threadwatch.procfs import ProcessDir, parse_stat, parse_syscall, read_again
from threadwatch.sampled import SampledProcess, SampledThread, Target, thread_of
from threadwatch.samples import Waits
from threadwatch.syscalls import ways
from threadwatch.waits import (
    LETTERS,
    Ask,
    AskFd,
    AskFile,
    AskFunction,
    AskMemory,
    AskState,
    of_file,
    of_function,
    of_letter,
    of_link,
    only_fd,
    reason,
)

__all__ = ["Target", "WaitSampler", "Waits"]

_KEPT_FILES = 4096
"""Files of threads that are kept open at most, each of which costs the kernel 4 KiB."""
_MAX_TROUBLED = 1024
"""Processes that have kept us waiting and are remembered, awake or not."""


_Sampled = tuple[SampledProcess, Target]


class WaitSampler:
    """Samples when told to. Not for several threads at once. ``errors`` collects what cannot be read."""

    def __init__(
        self,
        errors: list[ReadError],
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
        self._memory = MemoryReader()
        self._processes: dict[ProcessKey, SampledProcess] = {}
        self._troubled: dict[ProcessKey, Conduct] = {}

    def sample(self, targets: Iterable[Target], now_ns: int) -> None:
        """Look once at each of the targets. ``now_ns`` is CLOCK_MONOTONIC.

        On a machine whose system calls are not known, nothing is sampled.
        """
        if not self._ways:
            return
        sampled = []
        for target in targets:
            process = self._processes.get(target.key)
            if process is None:
                conduct = self._troubled.get(target.key) or Conduct()
                complaints = self._complaints.setdefault(target.key, set())
                process = self._processes[target.key] = SampledProcess(conduct, complaints)
            if process.denied:
                continue
            process.begin(target.gils, now_ns)
            try:
                self._read_threads(process, target, now_ns)
                sampled.append((process, target))
            except Denied as error:
                self._complain(process, error)
                self._drop(process, list(process.threads.values()))
                process.denied = True
        self._read_memory(sampled, now_ns)
        for process, _ in sampled:
            process.sampled_ns = now_ns

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
        self._memory.close()

    def _read_threads(self, process: SampledProcess, target: Target, now_ns: int) -> None:
        listed = tuple(target.tids)
        if listed != process.listed:
            self._follow(process, target.dir, listed, now_ns)
        looked = [
            (thread, data)
            for thread, data in zip(process.kept, read_again(process.fds), strict=True)
            if data != thread.raw
        ]
        looked += [(thread, None) for thread in process.others]
        for thread, data in looked:
            try:
                if data is None:  # not read, or there was an error: see which
                    data = _syscall(target.dir, thread)  # noqa: PLW2901  # it is what was looked for
                if data != thread.raw:
                    self._look(process, target, thread, data)
            except Gone:
                self._drop(process, [thread])

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
                answer = self._ask(process, target.dir, thread, answer)
        except Denied as error:
            self._complain(process, error)
            answer = "sleeping"
            thread.raw = b""
        except ReadError as error:
            self._complain(process, error)
            answer = "other"
            thread.raw = b""
        thread.see(answer, process.sampled_ns)

    def _ask(
        self,
        process: SampledProcess,
        directory: ProcessDir,
        thread: SampledThread,
        ask: AskFd | AskState | AskFile | AskFunction,
    ) -> str | Ask:
        if isinstance(ask, AskFd):
            process.perishable.append(thread)
            try:
                return of_link(directory.task_fd_link(thread.tid, ask.fd))
            except Gone:  # closed by another thread
                return "other"
        thread.raw = b""
        if isinstance(ask, AskState | AskFile):
            letter = parse_stat(directory.read_task(thread.tid, "stat")).state
            if isinstance(ask, AskState):
                return of_letter(letter)
            return of_file(letter, b"" if letter in LETTERS else _wchan(directory, thread))
        return of_function(ask.call, _wchan(directory, thread), process.gils)

    def _read_memory(self, sampled: list[_Sampled], now_ns: int) -> None:
        """Read what is in the processes' memory: who holds the GILs, and what is polled for."""
        jobs: list[tuple[SampledProcess, Target, Job]] = []
        for process, target in sampled:
            if process.gils or process.asks:
                job = self._job(process, target, now_ns)
                if job is not None:
                    jobs.append((process, target, job))
                else:
                    _guess(process)
        if not jobs:
            return
        done = self._memory.read([job for _, _, job in jobs])
        for process, target, job in jobs[:done]:
            self._learn(process, target, job, now_ns)
        for process, _, _ in jobs[done:]:
            _guess(process)
        if done < len(jobs):
            process, target, _ = jobs[done]
            self._memory.give_up(process.conduct, _owner(target.dir), now_ns)
            process.memory = None
            if len(self._troubled) >= _MAX_TROUBLED:
                del self._troubled[next(iter(self._troubled))]
            self._troubled[target.key] = process.conduct

    def _job(self, process: SampledProcess, target: Target, now_ns: int) -> Job | None:
        owner = target.dir
        if process.conduct.is_stuck(now_ns):
            self._complain(process, ReadError("gil", "timeout", "its memory cannot be read"))
        if process.memory_denied or not self._memory.may_read(
            process.conduct, lambda: _owner(owner), now_ns
        ):
            return None
        if process.memory is None:
            try:
                process.memory = target.dir.open_memory()
            except Gone:
                return None
            except ReadError as error:
                self._complain(process, error)
                process.memory_denied = isinstance(error, Denied)
                return None
        return Job(process.memory, process.gils, [ask for _, ask in process.asks])

    def _learn(self, process: SampledProcess, target: Target, job: Job, now_ns: int) -> None:
        """Take in what a job has found."""
        if job.gone:  # the program: there may be another one (exec)
            process.memory = None
            _guess(process)
            return
        if job.error is not None:
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


def _syscall(directory: ProcessDir, thread: SampledThread) -> bytes:
    if thread.file is not None:
        return thread.file.read()
    return directory.read_task(thread.tid, "syscall")


def _wchan(directory: ProcessDir, thread: SampledThread) -> bytes:
    """The kernel function that a thread waits in, as far as it has a name for us."""
    try:
        return directory.read_task(thread.tid, "wchan")
    except ReadError:
        return b""


def _owner(directory: ProcessDir) -> int:
    try:
        return directory.owner_uid()
    except (Gone, ReadError):
        return -1


def _guess(process: SampledProcess) -> None:
    """The memory cannot be read: threads that poll are in ``poll``."""
    for thread, _ in process.asks:
        thread.see("poll", process.sampled_ns)
