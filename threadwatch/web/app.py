"""Maps a request to a response: what each path serves. No I/O, no clock, no sockets."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from threadwatch.metrics.exporter import Exporter
from threadwatch.model.view import View
from threadwatch.web import files, pages, runbooks
from threadwatch.web.audience import Audience
from threadwatch.web.closeup import STACK_PATH, THREAD_PATH, CloseUp
from threadwatch.web.health import Health
from threadwatch.web.live import HISTORY_PATH, VIEW_PATH, LiveHistory, LiveView
from threadwatch.web.messages import NOSNIFF, Request, Response, plain

HEALTHY_PATH: Final = "/-/healthy"
READY_PATH: Final = "/-/ready"
METHODS: Final = ("GET", "HEAD")
_FOLDERS: Final = ("/static/", runbooks.PATH)
_TAKEN: Final = (HEALTHY_PATH, READY_PATH, VIEW_PATH, HISTORY_PATH, THREAD_PATH, STACK_PATH)

_TELEMETRY_PATH: Final = re.compile(r"/|(/[\w.~-]+)+", re.ASCII)


class App:
    """The daemon's paths: metrics, health, readiness, views and threads, runbooks, landing page."""

    def __init__(
        self,
        exporter: Exporter,
        health: Health,
        telemetry_path: str = "/metrics",
        *,
        audience: Audience | None = None,
        closeup: CloseUp | None = None,
        host: str = "",
    ) -> None:
        """``health`` knows whether polls get on; ``audience`` is told of requests for threads.

        ``closeup`` looks at single threads; None: nothing does.
        ``host``: the machine's name, for the landing page.

        Raises ValueError for an unusable path.
        """
        self._exporter = exporter
        self._health = health
        self._host = host
        self._telemetry_path = check_telemetry_path(telemetry_path)
        self._landing: tuple[View | None, Response] | None = None
        audience = audience or Audience()
        self._paths: dict[str, Callable[[Request], Response | Awaitable[Response]]] = {
            **files.load(),
            **runbooks.load(),
            "/": self._index,
            HEALTHY_PATH: self._healthy,
            READY_PATH: self._readiness,
            VIEW_PATH: LiveView(exporter, audience),
            HISTORY_PATH: LiveHistory(exporter, audience),
            **({THREAD_PATH: closeup.thread, STACK_PATH: closeup.stack} if closeup else {}),
            telemetry_path: self._metrics,  # last: at "/" it takes the landing page's place
        }

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """Return the response to ``request``; never raises for anything that a client can send."""
        path = path_of(request.target)
        methods = ("POST",) if path == STACK_PATH and path in self._paths else METHODS
        if request.method not in methods:
            allowed = ", ".join(methods)
            return plain(405, f"Method not allowed: use {allowed}.", ("Allow", allowed))
        if path is None:
            return plain(400, "Bad request: the target is neither a path nor an http URL.")
        handler = self._paths.get(path)
        if handler is None:
            known = ", ".join(
                path
                for path in self._paths
                if path == runbooks.PATH or not path.startswith(_FOLDERS)
            )
            return plain(404, f"Not found. There are: {known}")
        return handler(request)

    def _metrics(self, request: Request) -> Response:
        rendered = self._exporter.render(
            request.headers.get("accept"), request.headers.get("accept-encoding")
        )
        headers = [
            ("Content-Type", rendered.content_type),
            ("Vary", "Accept, Accept-Encoding"),
            NOSNIFF,
        ]
        if rendered.encoding is not None:
            headers.append(("Content-Encoding", rendered.encoding))
        return Response(200, tuple(headers), rendered.body)

    def _healthy(self, _request: Request) -> Response:
        complaint = self._health.complaint()
        if complaint:
            return plain(503, f"threadwatch is not healthy: {complaint}.")
        return plain(200, "threadwatch is healthy.")

    def _readiness(self, _request: Request) -> Response:
        complaint = self._health.complaint()
        if not complaint and not self._health.ready:
            complaint = "the first poll is not complete"
        if complaint:
            return plain(503, f"threadwatch is not ready: {complaint}.")
        return plain(200, "threadwatch is ready.")

    def _index(self, _request: Request) -> Response:
        view = self._exporter.view
        if self._landing is None or self._landing[0] is not view:
            links = {
                self._telemetry_path: "Metrics",
                VIEW_PATH: "JSON",
                HEALTHY_PATH: "Healthy",
                READY_PATH: "Ready",
            }
            body = pages.landing(view, links, self._host).encode()
            headers = (("Content-Type", "text/html; charset=utf-8"), *pages.HEADERS, NOSNIFF)
            self._landing = view, Response(200, headers, body)
        return self._landing[1]


def check_telemetry_path(path: str) -> str:
    """Return ``path`` if metrics can be served there.

    Raises ValueError: a line that says what would be right.
    """
    message = ""
    if not _TELEMETRY_PATH.fullmatch(path):
        message = "must begin with / and have only letters, digits and . _ ~ - in its parts, like /metrics"
    elif path in _TAKEN or path.startswith(_FOLDERS):
        message = "is taken; choose another, like /metrics"
    if message:
        message = f"telemetry path {path!r}: {message}"
        raise ValueError(message)
    return path


def path_of(target: str) -> str | None:
    """Return the path of a request target, without its query; None if it has none (RFC 9112, section 3.2)."""
    if not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        if scheme.lower() not in ("http", "https") or not separator:
            return None
        authority_end = min(
            (i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest)
        )
        target = rest[authority_end:]
        if not target.startswith("/"):
            target = "/" + target
    return target.partition("?")[0]
