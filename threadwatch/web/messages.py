"""Defines the messages of the daemon's paths: requests, responses, and the handler that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

_PLAIN: Final = "text/plain; charset=utf-8"
NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")
"""Tells browsers to believe the type."""


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request."""

    method: str
    target: str
    """As in the request line: path and query, or a whole URL."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in lower case; the values of a repeated one are joined by commas."""


@dataclass(frozen=True, slots=True)
class Response:
    """The response to a request. The server adds Content-Length and Date."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Handler(Protocol):
    """A function that the server calls for each request. It answers a HEAD as a GET."""

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """Return the response to ``request``; or, where it takes long, what to await for it."""


def plain(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """Return a line of plain text."""
    return Response(status, (("Content-Type", _PLAIN), NOSNIFF, *headers), f"{text}\n".encode())
