"""Binds the Unix socket at which tables are handed over.

All users may write to it, so its directory has to be one that only the daemon's user and root can change:
the unit's ``RuntimeDirectory``.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping

from threadwatch.errors import Unusable
from threadwatch.handover.inbox import Inbox
from threadwatch.handover.receiver import BACKLOG, Receiver
from threadwatch.publisher import layout
from threadwatch.sockets import unix_socket

_MODE = 0o666
"""A user who may write to a socket may connect."""


def default_path(environ: Mapping[str, str]) -> str:
    """Return where a daemon listens by default: in the directory of ``/run`` that it has been given.

    ``RUNTIME_DIRECTORY`` is one path, or several with colons between them (systemd.exec(5)).
    """
    directory, name = os.path.split(layout.SOCKET)
    return os.path.join(environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or directory, name)


class Handover:
    """Receives tables at a path, from its making until :meth:`stop`."""

    def __init__(self, path: str, inbox: Inbox) -> None:
        """Raise Unusable, a line that says what would be right, if there can be no socket at the path."""
        self._path = path
        self._receiver = Receiver(listen(path), inbox)
        try:
            self._receiver.start()
        except RuntimeError:
            message = f"cannot receive at publish_socket {path}: no thread can be started"
            raise Unusable(message) from None

    def stop(self) -> None:
        """Receive no more, and remove the socket."""
        self._receiver.stop()
        unix_socket.remove(self._path)


def listen(path: str) -> socket.socket:
    """Return a socket that listens at ``path``. Raises Unusable, a line that says what would be right."""
    try:
        return unix_socket.listen(path, socket.SOCK_SEQPACKET, _MODE, BACKLOG)
    except OSError as error:
        code = error.errno or 0
        reason = unix_socket.occupant(path) if code == errno.EADDRINUSE else os.strerror(code)
        message = (
            f"cannot listen at publish_socket {path}: {reason}: its directory has to be there, and writable "
            "for this user; publish_socket: off does without"
        )
        raise Unusable(message) from None
