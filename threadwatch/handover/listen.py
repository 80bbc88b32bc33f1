"""Binds the Unix socket at which tables are handed over.

All users may write to it, so its directory has to be one that only the daemon's user and root can change:
the unit's ``RuntimeDirectory``. A socket's file stays behind when its daemon is killed; it is removed if no
process answers there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Mapping

from threadwatch.errors import Unusable
from threadwatch.handover.inbox import Inbox
from threadwatch.handover.receiver import BACKLOG, Receiver
from threadwatch.publisher import layout

_KIND = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
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
        remove(self._path)


def listen(path: str) -> socket.socket:
    """Return a socket that listens at ``path``. Raises Unusable, a line that says what would be right."""
    listener = socket.socket(socket.AF_UNIX, _KIND)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(path):
                raise
            os.unlink(path)
            listener.bind(path)
        os.chmod(path, _MODE)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        code = error.errno or 0
        reason = "another process listens there" if code == errno.EADDRINUSE else os.strerror(code)
        message = (
            f"cannot listen at publish_socket {path}: {reason}: its directory has to be there, and writable "
            "for this user; publish_socket: off does without"
        )
        raise Unusable(message) from None
    return listener


def remove(path: str) -> None:
    """Remove the file of a socket that is closed, unless another daemon has put its own there."""
    with contextlib.suppress(OSError):
        if _is_stale(path):
            os.unlink(path)


def _is_stale(path: str) -> bool:
    """Return whether the socket at ``path`` is left over from a daemon that has ended."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, _KIND) as client:
        return client.connect_ex(path) == errno.ECONNREFUSED
