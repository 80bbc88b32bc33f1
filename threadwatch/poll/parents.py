"""Decides which processes are parents, and when their clocks of ended children are read.

The clock is read only of a process that has been seen with a child, or whose clock of ended
children has moved, and only if the process has run since the last poll: to wait for a child, it
must run. The clock is read before all other clocks of a poll;
:mod:`threadwatch.accounting.children` says why.
"""

from __future__ import annotations

from threadwatch.accounting.account import Account, Closed
from threadwatch.accounting.children import EndedChild
from threadwatch.discovery.discovery import Discovery
from threadwatch.errors import Gone, ReadError
from threadwatch.model.keys import ProcessKey
from threadwatch.procfs import ProcFS, Waited
from threadwatch.targets.process import Process
from threadwatch.threads.reader import ThreadReader

_QUIET = 64
"""Polls after which a process is no longer taken for one that has children, unless one is seen."""


_NOTHING = Waited()


class Parents:
    """Tells the account about ended children."""

    def __init__(
        self, procfs: ProcFS, discovery: Discovery, reader: ThreadReader, account: Account
    ) -> None:
        self._procfs = procfs
        self._discovery = discovery
        self._reader = reader
        self._account = account
        self._until: dict[int, int] = {}
        """By PID: the poll in which it is a parent for the last time."""
        self._due: set[int] = set()
        """PIDs of parents that are to be read whether or not they have run."""
        self._told: dict[ProcessKey, Waited] = {}
        """What ended children have used, as the account knows it."""
        self._read: list[ProcessKey] = []
        self._grown: set[int] = set()

    def due(self, poll: int, before_ns: int) -> list[Process]:
        """Return parents that may have waited for children since the last poll, begun at ``before_ns``."""
        self._read.clear()
        self._grown.clear()
        for pid in self._discovery.take_parents():
            self._expect(pid, poll)
        due = []
        for pid, until in list(self._until.items()):
            watched = self._discovery.watched.get(pid)
            if watched is None or until < poll:
                del self._until[pid]
                self._due.discard(pid)
            elif not watched.last.poll:
                continue  # its first look was in this very poll
            elif pid in self._due or self._has_run(watched):
                self._due.add(pid)
                due.append(watched)
            else:
                self._account.children.stand(watched.key, before_ns)
        return due

    def read(self, watched: Process, poll: int) -> None:
        """Read what ended children have used. Raises :class:`Gone` and other errors of reading."""
        self._reader.read_waited(watched)
        self._due.discard(watched.key.pid)
        key, waited = watched.key, watched.threads.waited
        if waited != self._told.get(key, _NOTHING):
            self._told[key] = waited
            self._until[key.pid] = poll + _QUIET
            self._grown.add(key.pid)
        self._account.children.read(key, waited)
        self._read.append(key)

    def see(self, watched: Process, poll: int) -> None:
        """Note that a process has been read in this poll, perhaps with its clock of ended children."""
        if watched.threads.waited != self._told.get(watched.key, _NOTHING):
            self._expect(watched.key.pid, poll)

    def open(self, watched: Process, now_ns: int, before_ns: int) -> None:
        """Begin with a process. The poll before this one began at ``before_ns``."""
        if not (watched.newborn or watched.last.poll):
            self._told[watched.key] = watched.threads.waited
        self._account.children.open(
            watched.key,
            self._told.get(watched.key, _NOTHING),
            before_ns if watched.newborn else now_ns,
        )

    def close(self, watched: Process, closed: Closed | None, poll: int, before_ns: int) -> None:
        """End with a process. The poll before this one began at ``before_ns``."""
        self._told.pop(watched.key, None)
        children = self._account.children
        if watched.dir.has_task(watched.key.pid):
            children.forget(watched.key)
            return
        leader = watched.threads.known.get(watched.key.pid)
        parent = watched.facts.ppid if leader is None else leader.stat.ppid
        if closed is not None:
            child = EndedChild(
                watched.key, parent, closed.cpu_ns, before_ns, closed.group, closed.series
            )
            children.close(child, watched.threads.waited)
        self._expect(parent, poll)

    def settle(self, poll: int, now_ns: int) -> None:
        """Have the account charge ended children at the end of a poll, which began at ``now_ns``."""
        self._account.children.see_gone(*self._discovery.take_gone_children(self._grown, poll))
        self._account.settle(self._read, now_ns)

    def _expect(self, pid: int, poll: int) -> None:
        """Note that a process has, or had, a child."""
        if pid in self._discovery.watched:
            self._until[pid] = poll + _QUIET
            self._due.add(pid)

    def _has_run(self, watched: Process) -> bool:
        if not self._procfs.same_namespace:
            return True
        try:
            return self._procfs.process_clock_ns(watched.key.pid) != watched.last.clock_ns
        except (Gone, ReadError):
            return False  # it has gone, as this poll will find
