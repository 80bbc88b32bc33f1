"""Makes Unix sockets that listen, also where a killed daemon has left the file of its own.

A socket's file stays behind when its daemon is killed. So if the path exists, we connect to it: if no process
answers, the file is removed. Any other file at the path is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat


def listen(path: str, kind: socket.SocketKind, mode: int, backlog: int) -> socket.socket:
    """Return a socket of this kind that listens at ``path`` and does not block.

    ``mode``: the permissions of its file; a user who may write to the file may connect (unix(7)).

    :raises OSError: there can be no socket. The errno is EADDRINUSE if the path is in use.
    """
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    try:
        _bind(listener, path)
        # No client can connect before listen(), so none can come in under the mode of the umask.
        os.chmod(path, mode)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def remove(path: str) -> None:
    """Remove the file of a socket that is closed, unless another daemon has put its own there."""
    with contextlib.suppress(OSError):
        if _is_stale(path):
            os.unlink(path)


def occupant(path: str) -> str:
    """Say in words what is at a path that is in use."""
    return "another process listens there" if _is_socket(path) else "something else is there"


def _bind(listener: socket.socket, path: str) -> None:
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_stale(path):
            raise
        os.unlink(path)
        listener.bind(path)


def _is_stale(path: str) -> bool:
    """Return whether the socket at ``path`` is left over from a daemon that has ended.

    Where a process listens, connect() answers EAGAIN if the queue is full, and EPROTOTYPE if the socket is
    of another kind than ours, which the process does not notice.
    """
    if not _is_socket(path):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        return client.connect_ex(path) == errno.ECONNREFUSED


def _is_socket(path: str) -> bool:
    """Return whether there is a socket at a path itself; what a link points at does not count."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False
