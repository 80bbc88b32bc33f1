"""Parses and binds Unix listen addresses: ``unix:/run/threadwatch/web.sock``, with a mode if need be."""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import dataclass
from typing import Final

from threadwatch.errors import Unusable
from threadwatch.sockets import unix_socket

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
    try:
        return unix_socket.listen(address.path, socket.SOCK_STREAM, address.mode, backlog)
    except OSError as error:
        message = f"cannot listen on {address}: {_reason(error, address.path)}"
        raise Unusable(message) from None


def _reason(error: OSError, path: str) -> str:
    code = error.errno or 0
    if code == errno.EADDRINUSE:
        return f"{unix_socket.occupant(path)}: choose another path"
    if code == errno.ENOENT:
        return f"there is no directory {os.path.dirname(path)}: make it, or choose another path"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{os.strerror(code)}: this user must be able to write to {os.path.dirname(path)}"
    return os.strerror(code)
