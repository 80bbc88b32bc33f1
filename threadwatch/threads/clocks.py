"""Reads the CPU clocks of one process's threads, and finds those that have run since the last poll.

A thread's clock is its schedstat; if the kernel keeps none, the ticks of its stat. Threads that
have run lately are *hot*: their files are kept open, because that halves the cost of reading them,
and because a kept file is tied to its thread even when the TID is used again. Each kept file takes
4 KiB of the kernel's memory, and one of our file descriptors, so their number is limited; other hot
threads are read by TID.

:mod:`threadwatch.threads.reader` decides which threads are read.
"""

from __future__ import annotations

import resource

from threadwatch.errors import Gone, ReadError
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.procfs import Stat, parse_schedstat, parse_stat, parse_status, read_again
from threadwatch.targets.process import Process
from threadwatch.targets.threads import KnownThread

_COOL_AFTER = 10
"""Polls without running after which a thread is no longer hot."""
_KEPT_FILES = 16_384
_OTHER_FILES = 8192


def most_kept_files() -> int:
    """Return how many files of threads may be kept open: an eighth of all, or all beyond others' needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(max(soft // 8, soft - _OTHER_FILES), _KEPT_FILES)


class ThreadClocks:
    """Reads the clocks of threads and keeps what is known of them true.

    ``errors`` collects what could not be read. ``schedstat``: whether the kernel keeps it.
    """

    def __init__(self, errors: list[ReadError], *, schedstat: bool) -> None:
        self._errors = errors
        self.schedstat = schedstat
        self._kept = 0
        self._keep = most_kept_files()

    def meet(self, watched: Process, tid: int, poll: int) -> KnownThread:
        """Read a thread for the first time. Raises :class:`Gone` and other errors of reading."""
        # Read the clock before stat, as always: so stat is never behind a clock that stands still.
        raw = watched.dir.read_task(tid, "schedstat") if self.schedstat else b""
        stat = parse_stat(watched.dir.read_task(tid, "stat"))
        ns_tid = tid
        if watched.ns_pid != watched.key.pid:
            status = parse_status(watched.dir.read_task(tid, "status"))
            ns_tid = status.nspid[-1] if status.nspid else tid
        known = KnownThread(tid, (tid, stat.start_ticks), ns_tid, poll, stat, raw)
        if raw:
            known.cpu_ns, known.runqueue_ns, known.timeslices = parse_schedstat(raw)
        else:
            known.cpu_ns = _ticks_ns(stat)
        known.stat_cpu_ns = known.cpu_ns
        watched.threads.meet(known)
        return known

    def forget(self, watched: Process, known: KnownThread) -> None:
        """Forget a thread that has ended."""
        watched.threads.forget(known)
        self._close(known)

    def read_hot(self, watched: Process, ran: dict[int, KnownThread]) -> bool:
        """Read the hot threads' clocks, add to ``ran`` those that have run; return whether one has ended."""
        hot = watched.threads.hot
        if not self.schedstat:
            return self.read(watched, list(hot.values()), ran)
        kept = [known for known in hot.values() if known.file is not None]
        unkept: list[KnownThread] = []
        if len(kept) < len(hot):
            unkept = [known for known in hot.values() if known.file is None]
        lost: list[KnownThread] = []
        gained_ns = 0
        # The one loop whose every step counts: it runs for each active thread in each poll.
        for known, data in zip(kept, read_again([known.fd for known in kept]), strict=True):
            if data == known.raw:
                known.quiet += 1
            elif data is None:
                lost.append(known)
            else:
                before_ns = known.cpu_ns
                try:
                    known.cpu_ns, known.runqueue_ns, known.timeslices = parse_schedstat(data)
                except ReadError as error:
                    self._errors.append(error)
                    continue
                known.raw = data
                known.quiet = 0
                gained_ns += known.cpu_ns - before_ns
                ran[known.tid] = known
        watched.threads.gain(gained_ns)
        for known in lost:
            self.forget(watched, known)
        return self.read(watched, unkept, ran) or bool(lost)

    def read(
        self, watched: Process, threads: list[KnownThread], ran: dict[int, KnownThread]
    ) -> bool:
        """Read these threads' clocks, add to ``ran`` those that have run; return whether one has ended."""
        lost = False
        for known in threads:
            try:
                if self._read(watched, known):
                    ran[known.tid] = known
                    known.quiet = 0
                else:
                    known.quiet += 1
            except Gone:
                self.forget(watched, known)
                lost = True
            except ReadError as error:
                self._errors.append(error)
        return lost

    def read_stat(self, watched: Process, known: KnownThread) -> bool:
        """Read a thread's stat; return False if another thread has the TID by now, or none.

        Raises :class:`ReadError` if the stat cannot be read.
        """
        cpu_ns = known.cpu_ns
        try:
            stat = parse_stat(watched.dir.read_task(known.tid, "stat"))
        except Gone:
            return False  # the next read of its clock will show that
        if stat.start_ticks != known.stat.start_ticks:
            self.forget(watched, known)
            return False
        known.stat, known.stat_cpu_ns = stat, cpu_ns
        return True

    def heat(self, watched: Process, ran: dict[int, KnownThread], poll: int) -> None:
        """Heat the threads that have run; cool those that have not run for a while."""
        book = watched.threads
        hot, now = book.hot, book.known
        for tid, known in ran.items():
            if now.get(tid) is not known:
                continue  # it has ended since
            # A whole life that is read for the first time says nothing about the present.
            if tid not in hot and (known.met != poll or known.stat.state == "R"):
                book.heat(known)
                if self.schedstat and self._kept < self._keep:
                    self._open(watched, known)
        for known in [known for known in hot.values() if known.quiet > _COOL_AFTER]:
            book.cool(known)
            self._close(known)

    def cool(self, watched: Process) -> None:
        """Cool all threads of a process at rest."""
        for known in watched.threads.hot.values():
            self._close(known)
        watched.threads.cool_all()

    def close(self, watched: Process) -> None:
        """Close all files of a process's threads."""
        for known in watched.threads.known.values():
            self._close(known)

    def _read(self, watched: Process, known: KnownThread) -> bool:
        """Read a thread's clock; return whether it has run since the last read."""
        before_ns = known.cpu_ns
        if not self.schedstat:
            stat = parse_stat(watched.dir.read_task(known.tid, "stat"))
            if stat.start_ticks != known.stat.start_ticks:
                raise Gone
            ran = stat != known.stat
            known.stat, known.cpu_ns = stat, _ticks_ns(stat)
            known.stat_cpu_ns = known.cpu_ns
        else:
            file = known.file
            data = watched.dir.read_task(known.tid, "schedstat") if file is None else file.read()
            ran = data != known.raw
            if ran:
                times = parse_schedstat(data)
                if file is None and times[0] < before_ns:
                    raise Gone  # another thread has the TID by now
                known.cpu_ns, known.runqueue_ns, known.timeslices = times
                known.raw = data
        watched.threads.gain(known.cpu_ns - before_ns)
        return ran

    def _open(self, watched: Process, known: KnownThread) -> None:
        try:
            known.file = watched.dir.open_task_file(known.tid, "schedstat")
        except (Gone, ReadError):
            return  # then it is read by its TID
        known.fd = known.file.fileno()
        self._kept += 1

    def _close(self, known: KnownThread) -> None:
        if known.file is not None:
            known.file.close()
            known.file = None
            self._kept -= 1


def _ticks_ns(stat: Stat) -> int:
    return (stat.user_ticks + stat.system_ticks) * NS_PER_TICK
