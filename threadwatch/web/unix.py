"""Binds Unix sockets: ``unix:/run/threadwatch/web.sock``, with a mode if need be.

A socket's file stays behind when its daemon is killed. So if the path exists, we connect to it: if
no process answers, the file is removed. Any other file at the path is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
from dataclasses import dataclass
from typing import Final

from threadwatch.errors import Unusable

PREFIX: Final = "unix:"
DEFAULT_MODE: Final = 0o660
"""A user who may write to the socket may connect: here the daemon's user and group."""

_RIGHT: Final = (
    "right is unix:/run/threadwatch/web.sock, or with a mode unix:/run/web.sock,mode=666"
)
_PATH: Final = re.compile(r"unix:(?P<path>/[^\x00-\x1f\x7f]*?)(?:,mode=0?(?P<mode>[0-7]{3}))?")
_LONGEST: Final = 107
"""Bytes of a path in struct sockaddr_un, without the zero at its end: unix(7)."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A path to listen at."""

    path: str
    mode: int = DEFAULT_MODE
    """The permissions of the socket's file."""

    def __str__(self) -> str:
        return f"{PREFIX}{self.path}"


def parse_unix_address(text: str) -> UnixAddress:
    """Return the address in ``unix:PATH`` or ``unix:PATH,mode=MODE``.

    Raises ValueError: one line, with what would be right.
    """
    match = _PATH.fullmatch(text)
    message = ""
    if match is None or match["path"].endswith("/") or ",mode=" in match["path"]:
        message = "no absolute path, or no mode of three octal digits"
    elif len(os.fsencode(match["path"])) > _LONGEST:
        message = f"a socket's path is at most {_LONGEST} bytes long"
    if match is None or message:
        message = f"listen address {text!r}: {message}: {_RIGHT}"
        raise ValueError(message)
    return UnixAddress(match["path"], int(match["mode"], 8) if match["mode"] else DEFAULT_MODE)


def bind_unix(address: UnixAddress, backlog: int) -> socket.socket:
    """Return a socket that listens at the path. Raises Unusable, a line that says what would be right."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(listener, address.path)
        # No client can connect before listen(), so none can come in under the mode of the umask.
        os.chmod(address.path, address.mode)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        message = f"cannot listen on {address}: {_reason(error, address.path)}"
        raise Unusable(message) from None
    return listener


def remove_unix(address: UnixAddress) -> None:
    """Remove the file of a socket that is closed, unless another daemon has put its own there."""
    with contextlib.suppress(OSError):
        if _is_stale(address.path):
            os.unlink(address.path)


def _bind(listener: socket.socket, path: str) -> None:
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_stale(path):
            raise
        os.unlink(path)
        listener.bind(path)


def _is_stale(path: str) -> bool:
    """Return whether the socket at ``path`` is left over from a daemon that has ended."""
    if not _is_socket(path):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)  # a listener whose queue is full is alive: EAGAIN
        return client.connect_ex(path) == errno.ECONNREFUSED


def _reason(error: OSError, path: str) -> str:
    code = error.errno or 0
    if code == errno.EADDRINUSE:
        taken = "another process listens there" if _is_socket(path) else "something else is there"
        return f"{taken}: choose another path"
    if code == errno.ENOENT:
        return f"there is no directory {os.path.dirname(path)}: make it, or choose another path"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{os.strerror(code)}: this user must be able to write to {os.path.dirname(path)}"
    return os.strerror(code)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False
