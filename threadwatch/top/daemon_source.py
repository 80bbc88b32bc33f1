"""Reads views from a daemon, over HTTP: ``--url``."""

from __future__ import annotations

import base64
import http.client
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from dataclasses import replace
from email.message import Message
from typing import IO

from threadwatch import __version__
from threadwatch.errors import Gone, Malformed, Unusable
from threadwatch.model.closeup import Examined
from threadwatch.model.keys import ThreadKey
from threadwatch.model.view import ProcessView, ThreadView, View
from threadwatch.stacks.dump import Stack
from threadwatch.top.source import Wait
from threadwatch.words.closeup_json import parse_examined, parse_python_stack
from threadwatch.words.from_json import parse_view
from threadwatch.words.text import cut, printable

AUTH_VARIABLE = "THREADWATCH_BASIC_AUTH"
"""Holds user:password, to keep them off the command line, which every user can read."""

_PATH = "/api/v1/view"
_TIMEOUT = 5.0
"""Seconds that a daemon may take to connect, or between two pieces of an answer."""
_STACK_TIMEOUT = 30.0
"""The same where py-spy has to run first."""
_MOST_LINE = 500
"""Bytes of an answer that says why there is none."""
_MOST_BYTES = 64 << 20
"""The largest body of a response: more than 100,000 threads."""
_STALE = 5.0
"""Seconds, besides three polls, after which a daemon without a new view counts as stuck."""


class DaemonSource:
    """A daemon. See :class:`threadwatch.top.source.Source`."""

    own_pid: int | None = None

    def __init__(self, url: str, *, interval: float) -> None:
        """Ask every ``interval`` seconds, but not more often than the daemon polls.

        :raises Unusable: ``url`` is not the URL of a daemon.
        """
        self.where, authorization = _parse(url)
        self._headers = {
            "Accept": "application/json",
            "User-Agent": f"threadwatch-top/{__version__}",
            **authorization,
        }
        self._request = urllib.request.Request(  # noqa: S310  # _parse has checked the scheme
            self.where + _PATH, headers={**self._headers, "Accept-Encoding": "gzip"}
        )
        handlers: list[urllib.request.BaseHandler] = [
            _NoRedirect(),
            urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        ]
        if urllib.parse.urlsplit(self.where).hostname in {"localhost", "127.0.0.1", "::1"}:
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy could not reach that address
        self._opener = urllib.request.build_opener(*handlers)
        self._interval = interval
        self._last: View | None = None
        self._news: float | None = None
        """When the last new view came, or else the first answer; None: the daemon does not answer."""
        self._due = 0.0

    def check(self) -> None:
        """Ask once at the start; the request makes the daemon look at threads.

        :raises Unusable: no daemon answers there.
        """
        self._ask()

    def next(self, wait: Wait) -> View | None:
        """See :class:`threadwatch.top.source.Source`."""
        pause = self._due - time.monotonic()
        while not wait(max(pause, 0.0)):
            try:
                view = self._ask()
            except Unusable:
                self._news = None
                raise
            now = time.monotonic()
            if self._news is None:
                self._news = now
            last = self._last
            if isinstance(view, View) and (last is None or view.sequence != last.sequence):
                self._last = view = _same(view, last)
                self._news = now
                self._due = now + max(self._interval, view.interval_ns / 1e9)
                return view
            daemons = last.interval_ns / 1e9 if last else self._interval
            if now - self._news > _STALE + 3 * daemons:
                raise Unusable(
                    f"{self.where} answers, but has not polled for {now - self._news:.0f} s"
                )
            # So that the next request comes just after its poll.
            pause = view if isinstance(view, float) else max(daemons / 20, 0.1)
        return None

    def examine(self, key: ThreadKey) -> Examined | str:
        """See :class:`threadwatch.top.source.Source`. A daemon does not tell a system call's arguments."""
        try:
            return parse_examined(self._ask_about(key, "thread", "GET", _TIMEOUT))
        except (Unusable, Malformed) as error:
            return str(error)

    def stack(self, key: ThreadKey) -> Stack | None:
        """See :class:`threadwatch.top.source.Source`."""
        try:
            return parse_python_stack(self._ask_about(key, "stack", "POST", _STACK_TIMEOUT))
        except Malformed as error:
            raise Unusable(f"{self.where} returns no stack: {_short(error)}") from None
        except Gone as error:
            raise Unusable(str(error)) from None

    def _ask_about(self, key: ThreadKey, what: str, method: str, timeout: float) -> bytes:
        """Return what the daemon answers about one thread.

        :raises Unusable: it does not tell, and why.
        """
        (pid, _), tid, start_ticks = key
        request = urllib.request.Request(  # noqa: S310  # _parse has checked the scheme
            f"{self.where}/api/v1/{what}?pid={pid}&tid={tid}&start_ticks={start_ticks}",
            method=method,
            headers={**self._headers, "X-Threadwatch": "top"},
        )
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                return _read(answer, packed=False)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(_MOST_LINE).decode("utf-8", "replace").strip()
                if error.code in {403, 502, 503}:
                    raise Unusable(_short(said)) from None
                raise Unusable(f"{self.where} {_complaint(error)}") from None
        except (OSError, http.client.HTTPException, zlib.error) as error:
            raise self._no_answer(error) from None

    def notes(self) -> str:
        """See :class:`threadwatch.top.source.Source`."""
        errors = self._last.stats.read_errors if self._last else {}
        if any(source in {"fd", "table"} and reason == "denied" for source, reason in errors):
            return "names of other users' threads are hidden from the daemon"
        return ""

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    def _ask(self) -> View | float:
        """Return the daemon's view; or the seconds after which it will have one."""
        try:
            with self._opener.open(self._request, timeout=_TIMEOUT) as answer:
                packed = answer.headers.get("Content-Encoding") == "gzip"
                return parse_view(_read(answer, packed=packed))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 503 and (after := _seconds(error.headers)):
                    return after
                raise Unusable(f"{self.where} {_complaint(error)}") from None
        except Malformed as error:
            raise Unusable(f"{self.where} returns no view: {_short(error)}") from None
        except (OSError, http.client.HTTPException, zlib.error) as error:
            raise self._no_answer(error) from None

    def _no_answer(self, error: Exception) -> Unusable:
        """Return the line that says what has come instead of an answer."""
        if isinstance(error, urllib.error.URLError):
            return Unusable(f"{self.where} cannot be reached: {_reason(error.reason)}")
        return Unusable(f"{self.where} does not answer as it should: {_reason(error)}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirection an error: the password is not for other servers."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        """Return None: no other address is asked instead."""


def _parse(url: str) -> tuple[str, dict[str, str]]:
    """Return the URL without user and password, and the header made of these."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
        parts = urllib.parse.urlsplit("")
    path = parts.path.rstrip("/")
    if (
        parts.scheme not in {"http", "https"}
        or not host
        or parts.query
        or parts.fragment
        or not (host + path).isascii()
        or not url.isprintable()
        or " " in url
    ):
        raise Unusable(
            f"top: --url should be like http://HOST:9749 or https://HOST, not {_short(url)!r}"
        )
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    if parts.username is not None:
        user, password = parts.username, parts.password or ""
        secret = f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password)}"
    elif ":" in (secret := os.environ.get(AUTH_VARIABLE, "")):
        pass
    elif secret:
        raise Unusable(f"top: {AUTH_VARIABLE} should be USER:PASSWORD")
    else:
        return where, {}
    encoded = base64.b64encode(secret.encode("utf-8", "surrogateescape")).decode("ascii")
    return where, {"Authorization": f"Basic {encoded}"}


def _read(answer: IO[bytes], *, packed: bool) -> bytes:
    """Return the unpacked body. Raise Malformed if it is too long."""
    body = answer.read(_MOST_BYTES + 1)
    if packed:
        unpacker = zlib.decompressobj(wbits=31)
        body = unpacker.decompress(body, _MOST_BYTES + 1)
    if len(body) > _MOST_BYTES:
        raise Malformed("view", "is too long")
    return body


def _seconds(headers: Message) -> float:
    after = headers.get("Retry-After", "")
    return min(float(after), 60.0) if after.isascii() and after.isdecimal() else 0.0


def _complaint(error: urllib.error.HTTPError) -> str:
    if error.code == 401:
        return f"wants a user and a password: give them in {AUTH_VARIABLE}=USER:PASSWORD"
    if error.code == 404:
        path = urllib.parse.urlsplit(error.url).path
        return f"is no threadwatch daemon, or one that is too old: it has no {path}"
    if 300 <= error.code < 400:
        return f"redirects to {_short(error.headers.get('Location', 'nowhere'))}: give that URL"
    return f"answers with status {error.code} {_short(error.reason)}"


def _reason(reason: object) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not to be trusted ({_short(reason.verify_message)}); "
            "SSL_CERT_FILE can name other authorities"
        )
    if isinstance(reason, TimeoutError):
        return f"no answer within {_TIMEOUT:.0f} s"
    if isinstance(reason, OSError) and reason.strerror:
        return _short(reason.strerror)
    return _short(reason) or type(reason).__name__


def _short(text: object) -> str:
    return cut(printable(str(text)), 100)


def _same(view: View, before: View | None) -> View:
    """Return the view, with the unchanged objects of the one before: that makes bars cheap."""
    if before is None:
        return view
    old = {process.key: process for process in before.processes}
    return view._replace(
        processes=tuple(_same_process(process, old.get(process.key)) for process in view.processes),
    )


def _same_process(process: ProcessView, before: ProcessView | None) -> ProcessView:
    if before is None:
        return process
    old = {thread.tid: thread for thread in before.threads}

    def same(thread: ThreadView) -> ThreadView:
        then = old.get(thread.tid)
        return then if then is not None and then == thread else thread

    now = replace(process, threads=tuple(map(same, process.threads)))
    return before if now == before else now
