"""The last View as JSON, for the status page and ``threadwatch top --url``: encoded once for all who ask.

Single threads are looked at only while somebody asks. Who is the first is told to come again after the
next poll: nobody waits in here.
"""

from __future__ import annotations

import gzip
import json
import math
from typing import Final

from threadwatch.exporter import Exporter
from threadwatch.exposition import accepts_gzip
from threadwatch.model import View
from threadwatch.view_json import view_json
from threadwatch.web.audience import Audience
from threadwatch.web.messages import NOSNIFF, Request, Response, plain

VIEW_PATH: Final = "/api/v1/view"

_GZIP_LEVEL: Final = 1
_HEADERS: Final = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("Vary", "Accept-Encoding"),
    NOSNIFF,
)
_PACKED: Final = (*_HEADERS, ("Content-Encoding", "gzip"))


class LiveView:
    """Answers :data:`VIEW_PATH`."""

    def __init__(self, exporter: Exporter, audience: Audience) -> None:
        """``audience`` hears of everybody who asks."""
        self._exporter = exporter
        self._audience = audience
        self._encoded: tuple[View | None, dict[bool, Response]] = (None, {})

    def __call__(self, request: Request) -> Response:
        """The last view; 503 with Retry-After where it has no threads yet."""
        self._audience.ask()
        view = self._exporter.view
        if view is None or not view.details:
            seconds = 1 if view is None else max(math.ceil(view.interval_ns / 1e9), 1)
            text = f"Threads are looked at from the next poll on: ask again in {seconds} s."
            return plain(503, text, ("Retry-After", str(seconds)), ("Cache-Control", "no-store"))
        if self._encoded[0] is not view:
            self._encoded = view, {}
        packed = accepts_gzip(request.headers.get("accept-encoding"))
        made = self._encoded[1]
        if packed not in made:
            if False not in made:
                body = json.dumps(view_json(view), separators=(",", ":")).encode()
                made[False] = Response(200, _HEADERS, body)
            if packed:
                body = gzip.compress(made[False].body, _GZIP_LEVEL, mtime=0)
                made[True] = Response(200, _PACKED, body)
        return made[packed]
