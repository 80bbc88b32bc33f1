"""Receives one table from one process that has connected to the socket.

Nothing that comes is trusted:

* The sender is the process that the kernel names (SO_PEERCRED in unix(7)): a PID as this process's
namespace has it, and a user.
* A received descriptor can be of anything. It is asked for its seals and its mount, which asks no file
system, and is then closed; only a sealed memfd is opened anew, for reading
(:func:`threadwatch.procfs.memfd.open_received`). More descriptors than one never reach us.
* To close a file can wait for ever, so :func:`serve` is for a thread that can be given up
(:mod:`threadwatch.reading.reader`).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from threadwatch.errors import ReadError
from threadwatch.handover.inbox import Inbox
from threadwatch.model.keys import HandoverResult
from threadwatch.procfs import TableFile
from threadwatch.procfs.handles import close
from threadwatch.procfs.marks import GivenUp, reading
from threadwatch.procfs.memfd import open_received
from threadwatch.publisher import layout

_UCRED: Final = struct.Struct("iII")
"""struct ucred: PID, uid and gid."""
_RIGHTS: Final = struct.Struct("i")


@dataclass(slots=True, eq=False)
class Peer:
    """A process that has connected."""

    connection: socket.socket
    pid: int
    uid: int
    until_s: float
    """The moment (time.monotonic()) by which it has to have sent its table."""
    refused: HandoverResult | None = None
    """Why nothing is received of the process."""

    def refuse(self, why: HandoverResult) -> None:
        """Have :func:`serve` close the connection unread."""
        self.refused = why


def meet(connection: socket.socket, until_s: float) -> Peer:
    """Return the process at the other end of a connection, which has until then to send its table."""
    connection.setblocking(False)
    pid, uid, _ = _UCRED.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    return Peer(connection, pid, uid, until_s)


def serve(peer: Peer, inbox: Inbox) -> bool:
    """Receive a process's table, unless that is refused, and close the connection.

    Returns False, and leaves the connection open, if the process has sent nothing yet.
    """
    result, file = peer.refused, None
    if result is None:
        try:
            result, file = _receive(peer.connection)
        except BlockingIOError:
            return False
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
    return True


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
