"""Serves the publishers that hand over their tables: each connects to a Unix socket and sends one descriptor.

Every user of the machine may connect, so what they can cost is bounded (what they send: :mod:`.peer`):

* A sender without a PID here is in no namespace that we see, and its table is of no use.
* To close a file can wait for ever: for the file system of a file (FUSE), for a network connection that
lingers. So descriptors and connections are received and closed by a thread that can be given up
(:mod:`threadwatch.reading.reader`). Nothing is received for a while of a user who has made that thread wait.
At most :data:`_MOST_STUCK` threads can be stuck; as long as they are, no connection is accepted.
* A process that connects and sends nothing is let go of after :data:`_PATIENCE_S`. At most
:data:`MOST_PEERS` connections wait for that; those of one user are at most half of what all others leave.
* The receiver takes a bounded share of a CPU. Beyond, connections are left to the kernel, whose queue is
:data:`BACKLOG` long; a publisher that finds the queue full gives up without a wait.

At rest the thread sleeps, and costs nothing.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import Counter
from typing import Final

from threadwatch.handover.inbox import Inbox
from threadwatch.handover.peer import Peer, meet, serve
from threadwatch.model.keys import HandoverResult
from threadwatch.procfs.marks import Lock
from threadwatch.reading.hangs import HangRecords
from threadwatch.reading.reader import GuardedReader

logger = logging.getLogger(__name__)

BACKLOG: Final = 512
"""Connections that the kernel keeps for us. Few: their descriptors count against what their users may have
under way (ETOOMANYREFS in unix(7)), which would be missed if this process hung."""
AT_ONCE: Final = 64
"""Connections that are accepted before those that are there are served."""
MOST_PEERS: Final = 64
_PATIENCE_S: Final = 1.0
_MOST_STUCK: Final = 8
"""With the threads that polls can lose (64 for each lock), and a dozen others, fewer than ``TasksMax``."""
_CPU_SHARE: Final = 0.05
_CPU_BURST_S: Final = 0.25
_MOST_HANGS: Final = 256


class Receiver:
    """Receives tables in a thread of its own, and puts them into an inbox."""

    def __init__(self, listener: socket.socket, inbox: Inbox) -> None:
        """``listener``: a listening socket (SOCK_SEQPACKET), which the receiver closes."""
        self._listener = listener
        self._inbox = inbox
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake = socket.socketpair()
        self._peers: dict[socket.socket, Peer] = {}
        """The processes of which a table is awaited."""
        self._of_users: Counter[int] = Counter()
        self._guarded = GuardedReader(most_stuck=_MOST_STUCK)
        self._hangs: dict[int, HangRecords] = {}
        """By uid: the users whose files have made the reading thread wait."""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="tables", daemon=True)

    def start(self) -> None:
        """Begin to receive. Raises RuntimeError if no thread can be started."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread.start()
        self._inbox.receiving = True

    def stop(self, timeout_s: float = 1.0) -> None:
        """Receive no more. The kernel closes connections that have not been accepted."""
        self._stopped = True
        self._waker.close()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        spent_s, allowed_s, since_s = self._cpu_s(), _CPU_BURST_S, time.monotonic()
        while not self._stopped:
            self._serve(self._wait())
            now_s, cpu_s = time.monotonic(), self._cpu_s()
            allowed_s = min(allowed_s + _CPU_SHARE * (now_s - since_s), _CPU_BURST_S)
            allowed_s -= cpu_s - spent_s
            spent_s, since_s = cpu_s, now_s
            if allowed_s < 0:
                self._rest(-allowed_s / _CPU_SHARE)
        self._selector.close()
        self._listener.close()
        self._wake.close()
        self._guarded.close()

    def _cpu_s(self) -> float:
        return (time.thread_time_ns() + self._guarded.cpu_ns) / 1e9

    def _rest(self, seconds: float) -> None:
        """Let time pass, unless the receiver is stopped meanwhile."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            selector.select(seconds)

    def _wait(self) -> list[Peer]:
        """Wait for connections and for what they send; return those to be served."""
        accepts = self._guarded.has_room()
        watched = self._listener in self._selector.get_map()
        if accepts and not watched:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif watched and not accepts:
            self._selector.unregister(self._listener)
        until_s = min((peer.until_s for peer in self._peers.values()), default=None)
        timeout_s = None if until_s is None else max(until_s - time.monotonic(), 0)
        if not accepts:
            timeout_s = min(_PATIENCE_S if timeout_s is None else timeout_s, _PATIENCE_S)
        ready = []
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                ready += self._accept()
            elif key.fileobj is not self._wake:
                ready.append(self._peers[key.fileobj])  # type: ignore[index]  # no other is registered
        now_s = time.monotonic()
        for peer in self._peers.values():
            if peer.until_s <= now_s and peer not in ready:
                peer.refuse("silent")
                ready.append(peer)
        return ready

    def _accept(self) -> list[Peer]:
        """Accept connections; most publishers have sent their tables before this."""
        accepted = []
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # there is none; or no descriptor is left, and there is a next time
                break
            peer = meet(connection, time.monotonic() + _PATIENCE_S)
            if (why := self._refusal(peer)) is not None:
                peer.refuse(why)
            accepted.append(peer)
        return accepted

    def _refusal(self, peer: Peer) -> HandoverResult | None:
        """Return why a process that has connected is refused."""
        if peer.pid <= 0:
            return "invisible"
        hangs = self._hangs.get(peer.uid)
        if hangs is not None and not self._guarded.may_read(
            hangs, "exec", lambda: peer.uid, time.monotonic_ns()
        ):
            return "hung"
        return None

    def _serve(self, ready: list[Peer]) -> None:
        """Receive from processes, or refuse them, and close their connections; await those that are late."""
        late: list[Peer] = []

        def receive(peer: Peer) -> None:
            if not serve(peer, self._inbox):
                late.append(peer)

        while ready:
            for peer in ready:
                self._forget(peer)
            late.clear()
            self._guarded.run_all(ready, receive, self._go_on_without, left_out=self._leave)
            ready = [peer for peer in late if not self._await(peer)]

    def _await(self, peer: Peer) -> bool:
        """Await what a process sends; return False if too many are awaited."""
        mine = self._of_users[peer.uid]
        if mine >= (MOST_PEERS - (len(self._peers) - mine) + 1) // 2:
            peer.refuse("too_many")
            return False
        self._peers[peer.connection] = peer
        self._of_users[peer.uid] += 1
        self._selector.register(peer.connection, selectors.EVENT_READ)
        return True

    def _forget(self, peer: Peer) -> None:
        """Await nothing more of a process."""
        if self._peers.pop(peer.connection, None) is not None:
            self._selector.unregister(peer.connection)
            self._of_users[peer.uid] -= 1
            if not self._of_users[peer.uid]:
                del self._of_users[peer.uid]

    def _go_on_without(self, peer: Peer, lock: Lock) -> None:
        """Go on without a process whose descriptor or connection makes the reading thread wait."""
        self._inbox.count("hung")
        while len(self._hangs) >= _MOST_HANGS:
            del self._hangs[next(iter(self._hangs))]
        hangs = self._hangs.setdefault(peer.uid, HangRecords())
        self._guarded.give_up(hangs, lock, peer.uid, time.monotonic_ns())
        logger.warning(
            "a process has handed over a file that makes us wait",
            extra={"fields": {"pid": str(peer.pid), "uid": str(peer.uid)}},
        )

    def _leave(self, peer: Peer) -> None:
        """Refuse a process for which no reading thread can be started."""
        self._inbox.count("too_many")
        peer.connection.close()
