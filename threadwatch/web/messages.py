"""What goes in and out of the daemon's paths: requests, responses, and who makes one of the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

_PLAIN: Final = "text/plain; charset=utf-8"
NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")
"""Tells browsers to believe the type."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for."""

    method: str
    target: str
    """As it stands in the request line: path and query, or a whole URL."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in lower case; the values of a repeated one are joined by commas."""


@dataclass(frozen=True, slots=True)
class Response:
    """What it gets. Content-Length and Date are the server's to add."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Handler(Protocol):
    """What the server calls for each request; answers a HEAD as it would a GET."""

    def __call__(self, request: Request) -> Response:
        """The response to ``request``."""


def plain(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """A line of plain text."""
    return Response(status, (("Content-Type", _PLAIN), NOSNIFF, *headers), f"{text}\n".encode())
