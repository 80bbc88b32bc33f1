"""Serves the last View as JSON, for the status page and ``threadwatch top --url``: encoded once for all.

Polls look at single threads only while a client asks for them (:mod:`threadwatch.web.audience`).
The first client is told to come again after the next poll: no request waits in here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Final

from threadwatch.metrics.exporter import Exporter
from threadwatch.metrics.exposition import accepts_gzip, packed
from threadwatch.model.view import View
from threadwatch.web.audience import Audience
from threadwatch.web.messages import NOSNIFF, Request, Response, plain
from threadwatch.words.to_json import history_json, view_json

VIEW_PATH: Final = "/api/v1/view"
HISTORY_PATH: Final = "/api/v1/history"

_HEADERS: Final = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("Vary", "Accept-Encoding"),
    NOSNIFF,
)
_PACKED: Final = (*_HEADERS, ("Content-Encoding", "gzip"))


class _Live:
    """Answers with a part of the last view."""

    def __init__(self, exporter: Exporter, audience: Audience) -> None:
        """``audience`` is told of every request."""
        self._exporter = exporter
        self._audience = audience
        self._shown: object = None
        self._encoded: dict[bool, Response] = {}

    def _answer(
        self, request: Request, part: Callable[[View], object], encode: Callable[[View], object]
    ) -> Response:
        """Return the part as JSON; 503 with Retry-After where there are no threads yet.

        ``encode`` is called if ``part`` is new.
        """
        self._audience.ask()
        view = self._exporter.view
        if view is None or not view.details:
            seconds = 1 if view is None else max(math.ceil(view.interval_ns / 1e9), 1)
            text = f"Threads are looked at from the next poll on: ask again in {seconds} s."
            return plain(503, text, ("Retry-After", str(seconds)), ("Cache-Control", "no-store"))
        if self._shown is not part(view):
            body = json.dumps(encode(view), separators=(",", ":")).encode()
            self._shown, self._encoded = part(view), {False: Response(200, _HEADERS, body)}
        compress = accepts_gzip(request.headers.get("accept-encoding"))
        if compress not in self._encoded:
            body = packed(self._encoded[False].body)
            self._encoded[True] = Response(200, _PACKED, body)
        return self._encoded[compress]


class LiveView(_Live):
    """Answers :data:`VIEW_PATH`: the view."""

    def __call__(self, request: Request) -> Response:
        """Return the response."""
        return self._answer(request, lambda view: view, view_json)


class LiveHistory(_Live):
    """Answers :data:`HISTORY_PATH`: the last minutes of what is in the view."""

    def __call__(self, request: Request) -> Response:
        """Return the response."""
        return self._answer(request, lambda view: view.history, history_json)
