"""Parses and binds listen addresses: from the text of a flag to a bound socket, or one line of error."""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import dataclass
from typing import Any, Final

from threadwatch.errors import Unusable
from threadwatch.web.unix import PREFIX, UnixAddress, bind_unix, parse_unix_address

BACKLOG: Final = 1024
"""Connections that the kernel holds for us until they are accepted; it limits this to net.core.somaxconn."""

_RIGHT: Final = "right are 127.0.0.1:9749, [::1]:9749, localhost:9749, or :9749 for all interfaces"
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]\s]*)):(?P<port>[0-9]{1,5})", re.ASCII
)

_REASONS: Final = {
    errno.EADDRINUSE: "the port is in use: stop what listens there (`ss -ltnp` shows it), or choose another",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose one that `ip address` shows, or leave it"
    " out to listen on all",
    errno.EACCES: "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE, so choose one above",
}


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen at."""

    host: str
    """An IP address or a host name; empty for all interfaces, of both IP versions."""
    port: int
    """0 lets the kernel choose one."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Listen = Address | UnixAddress
"""What a flag of the command line can name."""

_ALL_INTERFACES = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # only looked for


def page_url(address: Listen, own_name: str, *, tls: bool) -> str:
    """Return the URL of the page at an address that is served; empty for a Unix socket.

    ``own_name``: the name of this host, for an address that is every interface's.
    """
    if isinstance(address, UnixAddress):
        return ""
    shown = Address(own_name, address.port) if address.host in _ALL_INTERFACES else address
    return f"http{'s' * tls}://{shown}/"


def parse_listen(text: str) -> Listen:
    """Return the address or Unix socket that ``text`` names.

    Raises ValueError: one line, with what would be right.
    """
    return parse_unix_address(text) if text.startswith(PREFIX) else parse_listen_address(text)


def parse_listen_address(text: str) -> Address:
    """Return the address in ``host:port``, ``[IPv6]:port`` or ``:port``.

    Raises ValueError: one line, with what would be right.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        bare_ipv6 = text.count(":") > 1 and "/" not in text
        what = "an IPv6 address needs brackets" if bare_ipv6 else "not host:port"
        message = f"listen address {text!r}: {what}: {_RIGHT}"
        raise ValueError(message)
    if match["v6"] is not None and not _is_ipv6(match["v6"]):
        message = f"listen address {text!r}: no IPv6 address stands in the brackets: {_RIGHT}"
        raise ValueError(message)
    port = int(match["port"])
    if port > 65535:
        message = f"listen address {text!r}: a port is at most 65535: {_RIGHT}"
        raise ValueError(message)
    return Address(match["v6"] or match["host"] or "", port)


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0])  # the resolver checks the zone
    except OSError:
        return False
    return True


def bind(address: Listen) -> socket.socket:
    """Return a socket that listens on ``address``. Raises Unusable, a line that says what would be right.

    A host name stands for its first address, IPv4 before IPv6, as in Go's exporters.
    """
    if isinstance(address, UnixAddress):
        return bind_unix(address, BACKLOG)
    try:
        family, sockaddr = _resolve(address)
        return socket.create_server(
            sockaddr,
            family=family,
            backlog=BACKLOG,
            dualstack_ipv6=not address.host and family == socket.AF_INET6,
        )
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: the text cannot be a host name
        why = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        message = f"cannot listen on {address}: {why}: {_RIGHT}"
        raise Unusable(message) from None
    except OSError as error:
        # create_server() adds words of its own to strerror, so the text is made from errno.
        code = error.errno or 0
        message = f"cannot listen on {address}: {_REASONS.get(code) or os.strerror(code)}"
        raise Unusable(message) from None


def bound_address(listener: socket.socket, asked: Listen | None = None) -> Listen:
    """Return ``asked`` with the port that the kernel chose; for an inherited socket, its own address."""
    if isinstance(asked, UnixAddress):
        return asked
    where = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        # An abstract name is bytes that begin with a zero, which is written as @
        return UnixAddress(where if isinstance(where, str) else "@" + os.fsdecode(where[1:]))
    return Address(where[0] if asked is None else asked.host, where[1])


def _resolve(address: Address) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    if not address.host:
        dual = socket.has_dualstack_ipv6()
        return (socket.AF_INET6 if dual else socket.AF_INET), ("", address.port)
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    family, *_, sockaddr = found[0]
    return family, sockaddr
