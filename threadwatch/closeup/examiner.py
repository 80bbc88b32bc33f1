"""Examines one thread after the other, by a reading thread that can be given up: a read can wait for ever."""

from __future__ import annotations

import time

from threadwatch.closeup.kernel import examine
from threadwatch.model.closeup import Examined
from threadwatch.model.keys import ProcessKey, ThreadKey
from threadwatch.procfs import ProcFS
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.reader import GuardedReader, no_thread, owner_of, still_waiting


class Examiner:
    """Examines threads, one at a time: no two threads of the caller may ask at once."""

    def __init__(self, procfs: ProcFS) -> None:
        self._procfs = procfs
        self._reader = GuardedReader()
        self._hangs: tuple[ProcessKey | None, HangRecords] = None, HangRecords()
        """The hangs of the process that was examined last."""

    def examine(self, key: ThreadKey) -> Examined:
        """Return what the kernel tells of a thread. Takes 0.1 s at most, by our own clock.

        :raises Gone: the thread has ended.
        :raises ReadError: it cannot be read, or makes its reader wait.
        """
        process_key, _, _ = key
        if self._hangs[0] != process_key:
            self._hangs = process_key, HangRecords()
        hangs = self._hangs[1]
        found: list[Examined] = []
        with self._procfs.open_process(process_key.pid) as process:
            owner = owner_of(process)
        now_ns = time.monotonic_ns()
        if not self._reader.may_read(hangs, "exec", lambda: owner, now_ns):
            raise still_waiting(process_key.pid)
        self._reader.run_all(
            [key],
            lambda key: found.append(examine(self._procfs, key)),
            lambda _, lock: self._reader.give_up(hangs, lock, owner, now_ns),
        )
        if not found:
            raise no_thread() if hangs.exec.allows(now_ns) else still_waiting(process_key.pid)
        return found[0]

    def close(self) -> None:
        """End the reading thread."""
        self._reader.close()
