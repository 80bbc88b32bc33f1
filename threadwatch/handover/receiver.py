"""Receives tables that publishers hand over: each connects to a Unix socket and sends one descriptor.

Every user of the machine may connect, so nothing that comes is trusted:

* Who sends is what the kernel says (SO_PEERCRED in unix(7)): a PID as this process's namespace has it, and
a user. A sender without a PID here is in no namespace that we see, and its table is of no use.
* A received descriptor can be of anything. It is asked for its seals and its mount, which asks no file
system, and is then closed; only a sealed memfd is opened anew, for reading
(:func:`threadwatch.procfs.memfd.open_received`). More descriptors than one never reach us.
* To close a file can wait for ever: for the file system of a file (FUSE), for a network connection that
lingers. So descriptors and connections are received and closed by a thread that can be given up
(:mod:`threadwatch.reading.reader`), and of a user who has made it wait nothing is received for a while. At
most :data:`_MOST_STUCK` threads can be stuck; as long as they are, no connection is accepted.
* A process that connects and sends nothing is let go of after :data:`_PATIENCE_S`. At most
:data:`MOST_PEERS` connections wait for that; of one user half of what all others leave.
* All that takes a bounded share of a CPU. Beyond, connections are left to the kernel, whose queue is
:data:`BACKLOG` long; a publisher that finds it full gives up without a wait.

At rest the thread sleeps, and costs nothing.
"""

from __future__ import annotations

import logging
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from threadwatch.errors import ReadError
from threadwatch.handover.inbox import Inbox
from threadwatch.model.keys import HandoverResult
from threadwatch.procfs import TableFile
from threadwatch.procfs.handles import close
from threadwatch.procfs.marks import GivenUp, Lock, reading
from threadwatch.procfs.memfd import open_received
from threadwatch.publisher import layout
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
_PEER: Final = struct.Struct("iII")
"""struct ucred: PID, uid and gid."""
_RIGHTS: Final = struct.Struct("i")


@dataclass(slots=True, eq=False)
class _Peer:
    """A process that has connected."""

    connection: socket.socket
    pid: int
    uid: int
    until_s: float
    """Until when it has to have sent its table (time.monotonic())."""
    why_not: HandoverResult | None = None
    """Why nothing is received of it."""
    is_late: bool = False
    """It has sent nothing yet."""


class Receiver:
    """Receives tables in a thread of its own, and puts them into an inbox."""

    def __init__(self, listener: socket.socket, inbox: Inbox) -> None:
        """``listener``: a listening socket (SOCK_SEQPACKET), which the receiver closes."""
        self._listener = listener
        self._inbox = inbox
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake = socket.socketpair()
        self._peers: dict[socket.socket, _Peer] = {}
        """Those of which a table is awaited."""
        self._of_users: Counter[int] = Counter()
        self._guarded = GuardedReader(most_stuck=_MOST_STUCK)
        self._hangs: dict[int, HangRecords] = {}
        """By uid: the users who have made us wait."""
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

    def _wait(self) -> list[_Peer]:
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
                peer.why_not = "silent"
                ready.append(peer)
        return ready

    def _accept(self) -> list[_Peer]:
        """Accept connections; most publishers have sent their tables before this."""
        accepted = []
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # there is none; or no descriptor is left, and there is a next time
                break
            connection.setblocking(False)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            pid, uid, _ = _PEER.unpack(credentials)
            peer = _Peer(connection, pid, uid, time.monotonic() + _PATIENCE_S)
            peer.why_not = self._refusal(peer)
            accepted.append(peer)
        return accepted

    def _refusal(self, peer: _Peer) -> HandoverResult | None:
        """Return why a process that has connected is refused."""
        if peer.pid <= 0:
            return "invisible"
        hangs = self._hangs.get(peer.uid)
        if hangs is not None and not self._guarded.may_read(
            hangs, "exec", lambda: peer.uid, time.monotonic_ns()
        ):
            return "hung"
        return None

    def _serve(self, ready: list[_Peer]) -> None:
        """Receive from processes, or refuse them, and close their connections."""
        while ready:
            for peer in ready:
                self._forget(peer)
            self._guarded.run_all(
                ready,
                lambda peer: _serve(peer, self._inbox),
                self._go_on_without,
                left_out=self._leave,
            )
            late = [peer for peer in ready if peer.is_late]
            ready = [peer for peer in late if not self._await(peer)]

    def _await(self, peer: _Peer) -> bool:
        """Await what a process sends; return False if too many are awaited."""
        peer.is_late = False
        mine = self._of_users[peer.uid]
        if mine >= (MOST_PEERS - (len(self._peers) - mine) + 1) // 2:
            peer.why_not = "too_many"
            return False
        self._peers[peer.connection] = peer
        self._of_users[peer.uid] += 1
        self._selector.register(peer.connection, selectors.EVENT_READ)
        return True

    def _forget(self, peer: _Peer) -> None:
        """Await nothing more of a process."""
        if self._peers.pop(peer.connection, None) is not None:
            self._selector.unregister(peer.connection)
            self._of_users[peer.uid] -= 1
            if not self._of_users[peer.uid]:
                del self._of_users[peer.uid]

    def _go_on_without(self, peer: _Peer, lock: Lock) -> None:
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

    def _leave(self, peer: _Peer) -> None:
        """Refuse a process for which no reading thread can be started."""
        self._inbox.count("too_many")
        peer.connection.close()


def _serve(peer: _Peer, inbox: Inbox) -> None:
    """Receive one process's table, if that is not refused, and close the connection, unless it is late."""
    result, file = peer.why_not, None
    if result is None:
        try:
            result, file = _receive(peer.connection)
        except BlockingIOError:
            peer.is_late = True
            return
        except GivenUp:
            peer.connection.close()
            raise
    try:
        _closed(peer.connection.close)
    except GivenUp:  # what else has come on the connection cannot be closed
        if file is not None:
            file.close()
        raise
    if file is not None:
        inbox.put(peer.pid, peer.uid, file)
    elif result is not None:
        inbox.count(result)


def _receive(connection: socket.socket) -> tuple[HandoverResult | None, TableFile | None]:
    """Return the table that has been sent, or why there is none.

    :raises BlockingIOError: nothing has been sent yet.
    """
    descriptors: list[int] = []
    try:
        with reading():
            # The kernel drops further descriptors, for which there is no room here.
            data, messages, _, _ = connection.recvmsg(
                len(layout.MAGIC) + 1,
                socket.CMSG_LEN(_RIGHTS.size),
                socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
            )
            descriptors += [
                number
                for level, kind, rights in messages
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                for (number,) in _RIGHTS.iter_unpack(rights[: len(rights) // 4 * 4])
            ]
        if not data and not descriptors:
            return "silent", None
        if data != layout.MAGIC or len(descriptors) != 1:
            return "invalid", None
        return None, open_received(descriptors[0])
    except BlockingIOError:
        raise
    except (OSError, ReadError):
        return "invalid", None
    finally:
        for number in descriptors:
            _closed(lambda number=number: close(number))  # type: ignore[misc]  # mypy knows no such default


def _closed(close_it: Callable[[], object]) -> None:
    """Close something that can wait for ever."""
    with reading():
        close_it()
