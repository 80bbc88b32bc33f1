"""Decides which Host headers are answered: none by which a web page leads a browser here. Pure.

A page can have the name of its own site resolve to 127.0.0.1 (DNS rebinding); the browser then lets the page
read what a server on this machine answers. The name in the Host header gives the page away. So a server on a
loopback address answers to addresses, to this machine's own names, and to names that the administrator has
allowed. Requests that come in over a network, by TLS or with a password are not looked at: over a network any
name can be right, and TLS and passwords keep such a page out.
See docs/decisions/0043-host-headers.md.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

_LOCAL = "localhost"


class Hosts:
    """The names by which a server on a loopback address may be asked."""

    def __init__(self, own: str = "", allowed: Iterable[str] = ()) -> None:
        """``own``: the machine's name. ``allowed``: more names."""
        self._names = frozenset(name.lower() for name in (_LOCAL, own, *allowed) if name)

    def refusal(self, host: str, arrived_at: object) -> str | None:
        """Return why a request is not answered; None if it is.

        ``host``: its Host header (RFC 9110, section 7.2). ``arrived_at``: the server's own address in that
        connection, as getsockname(2) has it.
        """
        name = _name(host)
        if not _is_loopback(arrived_at) or not name or self._knows(name):
            return None
        return (
            f"Misdirected request: {name!r} is not known as a name of this machine. If it is one, start "
            "threadwatch with --web.allow-host=NAME."
        )

    def _knows(self, name: str) -> bool:
        return name in self._names or name.endswith("." + _LOCAL) or _is_address(name)


def _name(host: str) -> str:
    """Return the name in a Host header, without port, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(address: object) -> bool:
    if not isinstance(address, tuple):
        return False  # a Unix socket
    try:
        found = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
