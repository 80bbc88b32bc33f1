"""Serves the status page's files: read from the package once, served from memory."""

from __future__ import annotations

import gzip
from importlib.resources import files
from typing import Final

from threadwatch.metrics.exposition import accepts_gzip
from threadwatch.web.messages import NOSNIFF, Request, Response

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
}


class File:
    """Answers with one file."""

    def __init__(self, kind: str, content: bytes) -> None:
        """``kind`` is the end of the file's name: css, js or svg."""
        headers = (
            ("Content-Type", _TYPES[kind]),
            # The files are small, and after an upgrade older copies would not fit together.
            ("Cache-Control", "no-store"),
            ("Vary", "Accept-Encoding"),
            ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
            NOSNIFF,
        )
        self._plain = Response(200, headers, content)
        self._packed = Response(
            200, (*headers, ("Content-Encoding", "gzip")), gzip.compress(content, mtime=0)
        )

    def __call__(self, request: Request) -> Response:
        """Return the response."""
        packed = accepts_gzip(request.headers.get("accept-encoding"))
        return self._packed if packed else self._plain


def load() -> dict[str, File]:
    """Return all files by their paths."""
    found = {}
    for entry in files("threadwatch.web").joinpath("static").iterdir():
        kind = entry.name.rpartition(".")[2]
        if kind in _TYPES:
            found[f"/static/{entry.name}"] = File(kind, entry.read_bytes())
    return found
