"""Samples why threads wait and which thread holds the GIL, between polls. Knows no groups and no metrics.

Rules:

* **Time is credited by the clock, not by count**: the state that a sample sees is credited with the
time since that for which the sample before stands, up to the end of the part of the time in which its moment
was chosen (:mod:`.moments`), and after the last one up to the poll. So a sample that is late or missing
costs only detail. The first sample of a thread credits nothing before it.
* **What has not changed takes one read.** A thread's file ``syscall`` stays open while it is
sampled, and the same bytes again mean the same state. If the state depends on the file behind a
descriptor, that file is looked up again once a second, because the number may belong to another
file afterwards. If the state depends on what the kernel does (``file``, ``disk``), the kernel is asked
every time.
* A thread that waits for the GIL and the one that holds it are seen by different reads, some
microseconds apart, so one thread can be both in the same sample. Neither is corrected by the other:
each is right for its own moment, and so both are right on average.
* **The holder of the GIL** is known by the TID in its thread state (CPython 3.11 and later). Older
versions have only the ident, which the table translates, and which can be that of a thread that has
just ended. A holder counts only if the process has that thread.
* A process that permission hides is left out: its threads have only the states that every user can
see, without reasons. Each error is reported once per process.
* The address of a GIL was read before the last poll. Memory there that cannot be read, or is no
GIL, counts as an error only if a table names the address even now: after an exec another program
has the address, and an interpreter that ends frees it.
* A process whose memory makes us wait is sampled without its memory for a while: see
:mod:`threadwatch.reading.reader`.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping

from threadwatch.errors import Denied, Gone, ReadError
from threadwatch.model.keys import ProcessKey
from threadwatch.model.readings import Waits
from threadwatch.procfs import ProcessDir, parse_syscall, read_calls
from threadwatch.procfs.marks import Lock
from threadwatch.reading.reader import GuardedReader
from threadwatch.waits.gil_holder import Answer
from threadwatch.waits.kernel_answers import ask_kernel
from threadwatch.waits.loop_looks import LoopLooks
from threadwatch.waits.memory_job import guess, read_memory
from threadwatch.waits.reasons import Ask, AskCondition, AskFd, AskMemory, only_fd, reason
from threadwatch.waits.records import SampledProcess, SampledThread, Target, thread_of
from threadwatch.waits.syscalls import ways

__all__ = ["Target", "WaitSampler", "Waits"]

_KEPT_FILES = 4096
"""The most files of threads that are kept open; each takes 4 KiB of the kernel's memory."""


class WaitSampler:
    """Samples processes on request. Not for several threads at once. ``errors`` collects read errors."""

    def __init__(
        self,
        errors: list[ReadError],
        guarded: GuardedReader,
        *,
        keep: int | None = None,
        complaints: dict[ProcessKey, set[tuple[str, str]]] | None = None,
        loops: LoopLooks | None = None,
    ) -> None:
        """``keep``: the most files to keep open; by default, as many as there is room for.

        ``complaints``: the errors that have been reported of each process; several samplers can
        share them. ``loops`` looks at the loops of processes whose target asks for that.
        """
        self._loops = loops
        self._complaints = {} if complaints is None else complaints
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._errors = errors
        self._keep = min(soft // 8, _KEPT_FILES) if keep is None else keep
        self._kept = 0
        self._ways = ways(os.uname().machine)
        self._guarded = guarded
        self._processes: dict[ProcessKey, SampledProcess] = {}

    def sample(self, target: Target, now_ns: int, until_ns: int | None = None) -> None:
        """Take one sample of a process. ``now_ns`` is CLOCK_MONOTONIC.

        ``until_ns``: up to when it stands for the time; None: up to now.

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
            process.deny()
            return
        if target.loops is not None and self._loops is not None:
            self._loops.look(process, target, target.loops, now_ns)
        if process.gils or process.asks:
            self._read_memory(process, target, now_ns)
        process.done(now_ns if until_ns is None else until_ns)

    def go_on_without(self, target: Target, lock: Lock, now_ns: int) -> None:
        """Go on without a process, or without its memory, because it made the sampling thread wait."""
        process = self._processes.get(target.key)
        if process is None:
            return
        if lock == "memory":
            process.keep_memory(None)
            guess(process)
            process.done(now_ns)
        else:
            self.forget(target.key)

    def take(self, key: ProcessKey, now_ns: int | None = None) -> Mapping[int, Waits]:
        """Return the waits of the process's threads that samples have seen since the last call, by TID.

        ``now_ns``: up to when; None: up to when the last sample stands for the time.

        The result has no thread of a process that permission hides. For a thread that has not been
        sampled, but has held a GIL, :attr:`Waits.times` is empty.
        """
        process = self._processes.get(key)
        return {} if process is None or process.denied else process.take(now_ns)

    def is_calm(self, key: ProcessKey, now_ns: int) -> bool:
        """Return whether samples have seen nothing change in a process for a while."""
        process = self._processes.get(key)
        return process is not None and process.is_calm(now_ns)

    def forget(self, key: ProcessKey) -> None:
        """Forget a process that has ended or rests. Waits that were not taken are lost."""
        process = self._processes.pop(key, None)
        if process is not None:
            self._drop(process, list(process.threads.values()))

    def close(self) -> None:
        """Close all files."""
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
            if not isinstance(raw, bytes):
                self._miss(process, thread, raw)
                continue
            try:
                self._look(process, target, thread, raw)
            except (Gone, ReadError) as error:
                self._miss(process, thread, error)

    def _miss(
        self, process: SampledProcess, thread: SampledThread, error: Gone | ReadError
    ) -> None:
        """Go on without a thread's file. Raises Denied."""
        if isinstance(error, Gone):
            self._drop(process, [thread])
            return
        if isinstance(error, Denied):
            raise error
        # perhaps out of memory or descriptors: the next sample may work
        self._complain(process, error)
        thread.doubt()
        thread.see("other", process.sampled_ns)

    def _follow(
        self, process: SampledProcess, directory: ProcessDir, listed: tuple[int, ...], now_ns: int
    ) -> None:
        """Sample these threads from now on, and no others."""
        process.follow(listed)
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
        """Note a thread's state by the content of its file. Raises :class:`Gone`."""
        try:
            call = parse_syscall(data)
        except ReadError as error:
            self._complain(process, error)
            thread.see("other", process.sampled_ns)
            return
        thread.know(data)
        answer = "running" if call is None else reason(call, self._ways, process.gils)
        self._settle(process, target, thread, answer)

    def _settle(
        self, process: SampledProcess, target: Target, thread: SampledThread, answer: str | Ask
    ) -> None:
        """Ask until the reason is known, or depends on the process's memory."""
        try:
            while not isinstance(answer, str):
                if isinstance(answer, AskCondition) and process.waits_on_stacks is False:
                    answer = "lock"
                    break
                if isinstance(answer, AskMemory | AskCondition):
                    process.ask_memory(thread, answer)
                    return
                if isinstance(answer, AskFd):
                    process.hangs_on_file(thread)
                else:
                    thread.doubt()
                answer = ask_kernel(target.dir, thread.tid, answer, process.gils)
        except Denied as error:
            self._complain(process, error)
            answer = "sleeping"
            thread.doubt()
        except ReadError as error:
            self._complain(process, error)
            answer = "other"
            thread.doubt()
        thread.see(answer, process.sampled_ns)

    def _read_memory(self, process: SampledProcess, target: Target, now_ns: int) -> None:
        """Read the process's memory: the holders of its GILs, and what its threads wait for."""

        def complain(error: ReadError) -> None:
            self._complain(process, error)

        job = read_memory(process, target, now_ns, self._guarded, complain)
        if job is None:
            guess(process)
            return
        for number, holder in enumerate(job.holders):
            if holder is not None:
                process.see_holder(number, thread_of(holder, target, process), now_ns)
        for (thread, ask), answer in zip(process.asks, job.answers, strict=True):
            self._hear(process, target, thread, ask, answer)

    def _hear(
        self,
        process: SampledProcess,
        target: Target,
        thread: SampledThread,
        ask: AskMemory | AskCondition,
        answer: Answer,
    ) -> None:
        """Note a thread's state by what the process's memory has said."""
        if isinstance(ask, AskCondition):
            process.know_stacks(used=answer is not None)
            if answer is False:
                thread.doubt()  # it may just come to the list, or leave it
            thread.see("gil" if answer else "lock", process.sampled_ns)
            return
        try:
            state = only_fd(ask, answer) if isinstance(answer, list) else "poll"
            self._settle(process, target, thread, state)
        except Gone:
            self._drop(process, [thread])

    def _drop(self, process: SampledProcess, threads: list[SampledThread]) -> None:
        if threads:
            self._kept -= process.drop(threads)

    def _complain(self, process: SampledProcess, error: ReadError) -> None:
        if process.is_news(error):
            self._errors.append(error)


def _read_calls(process: SampledProcess, directory: ProcessDir) -> list[bytes | Gone | ReadError]:
    """Return the files ``syscall`` of its threads, those kept open first; or an error instead of a file."""
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
