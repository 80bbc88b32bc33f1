"""Where ``top --url`` asks: URLs, passwords, and servers that answer in every wrong way there is."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from tests.top import EXAMINED, shop
from threadwatch.errors import Gone, Malformed, Unusable
from threadwatch.model.keys import ProcessKey
from threadwatch.model.view import View
from threadwatch.stacks.dump import Frame, Stack
from threadwatch.top.daemon_source import AUTH_VARIABLE, DaemonSource
from threadwatch.words.closeup_json import (
    examined_json,
    parse_examined,
    parse_python_stack,
    python_stack_json,
)
from threadwatch.words.to_json import view_json

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def server(answer: Answer, *, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run a server on loopback that gives that answer to every request; yield its host and port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Log nothing: no code reads it."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Report nothing: what a test breaks off is no error."""

    made = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        made.socket = context.wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{made.server_address[1]}"
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answers with that."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def encoded(view: View) -> bytes:
    """Return the view as the daemon encodes it."""
    return json.dumps(view_json(view)).encode()


def no_wait(seconds: float) -> bool:
    """Let a moment pass, however long it should be."""
    time.sleep(min(seconds, 0.001))
    return False


def test_views_come_once_each() -> None:
    """A view is given once: the same sequence again is waited out; gzip is understood."""
    numbers = iter([1, 1, 1, 2, 2, 3])

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        assert "gzip" in handler.headers["Accept-Encoding"]
        body = gzip.compress(encoded(shop(next(numbers))))
        says(200, body, Content_Encoding="gzip")(handler)

    with server(answer) as host:
        source = DaemonSource(f"http://{host}", interval=0.001)
        views = [source.next(no_wait) for _ in range(3)]
    assert [view.sequence for view in views if view] == [1, 2, 3]
    assert views[0] is not None
    assert views[1] is not None
    assert views[0].processes[0].threads[0] is views[1].processes[0].threads[0], (
        "nothing has changed"
    )


def test_a_daemon_that_has_not_looked_yet() -> None:
    """Status 503 with Retry-After is no error: it is asked again later, or until top no longer waits."""
    answers = iter([says(503, b"soon", Retry_After="2"), says(200, encoded(shop(1)))])
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return len(waited) > 3

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        next(answers)(handler)

    with server(answer) as host:
        source = DaemonSource(f"http://{host}/", interval=1.0)
        source.check()
        view = source.next(wait)
        assert view is not None
        assert view.sequence == 1
    with server(says(503, b"soon", Retry_After="2")) as host:
        waited.clear()
        assert DaemonSource(f"http://{host}", interval=1.0).next(wait) is None
    assert waited[1:] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (says(401), f"wants a user and a password: give them in {AUTH_VARIABLE}=USER:PASSWORD"),
        (says(404), "is no threadwatch daemon"),
        (says(500), "answers with status 500 Internal Server Error"),
        (says(503), "answers with status 503"),
        (says(302, Location="http://elsewhere/\x1b[31m"), "redirects to http://elsewhere/"),
        (says(200, b"<html>"), "returns no view: view: malformed: is no JSON"),
        (says(200, b"{}"), "returns no view: view: malformed: sequence is missing"),
        (says(200, b"[" * 100_000), "returns no view"),
        (says(200, b"\xff\xfe"), "returns no view"),
        (says(200, b"not gzip", Content_Encoding="gzip"), "does not answer as it should"),
        (says(200, gzip.compress(bytes(80 << 20)), Content_Encoding="gzip"), "is too long"),
        (lambda handler: handler.wfile.write(b"\x1b[2Jhello\n"), "does not answer as it should"),
        (lambda handler: handler.connection.close(), ""),
        (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), ""),
    ],
)
def test_wrong_answers_are_one_printable_line(answer: Answer, complaint: str) -> None:
    """Whatever a server says instead of a view, there is one line that says so, and names the server."""
    with server(answer) as host:
        with pytest.raises(Unusable) as raised:
            DaemonSource(f"http://{host}", interval=1.0).check()
        said = str(raised.value)
    assert said.startswith(f"http://{host} ")
    assert complaint in said
    assert said.isprintable()
    assert len(said) < 250


def test_nobody_there() -> None:
    """A port without a listener, and a name that does not exist, are one line each."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unusable, match="cannot be reached: Connection refused"):
            DaemonSource(f"http://127.0.0.1:{port}", interval=1.0).check()
    with pytest.raises(Unusable, match=r"http://no-such-host\.invalid:1 cannot be reached: "):
        DaemonSource("http://no-such-host.invalid:1", interval=1.0).check()


@pytest.mark.parametrize(
    "url",
    [
        *("", "host", "host:9749", "ftp://host", "http://", "http://:80", "http://host:port"),
        *(
            "http://host:99999",
            "http://[::1",
            "http://host/?a=b",
            "http://host/#a",
            "file:///etc/passwd",
        ),
        *("http://h\n.x", "http://host/a b", "http://höst", "http://host/\r\nX: y"),
    ],
)
def test_bad_urls(url: str) -> None:
    """What is no URL of a daemon is refused in one line that says what one is like."""
    with pytest.raises(
        Unusable, match=r"^top: --url should be like http://HOST:9749 or https://HOST"
    ) as r:
        DaemonSource(url, interval=1.0)
    assert str(r.value).isprintable()


@pytest.mark.parametrize(
    ("prefix", "variable", "wanted"),
    [
        ("", None, None),
        ("joe:secret@", None, "joe:secret"),
        ("joe:p%40ss%3A%C3%A9@", None, "joe:p@ss:é"),
        ("", "joe:from:env", "joe:from:env"),
        ("ann:url@", "joe:env", "ann:url"),
    ],
)
def test_passwords(
    monkeypatch: pytest.MonkeyPatch, prefix: str, variable: str | None, wanted: str | None
) -> None:
    """User and password come from the URL, else from the environment, and are shown nowhere."""
    monkeypatch.delenv(AUTH_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(AUTH_VARIABLE, variable)
    heard: list[str | None] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        heard.append(handler.headers["Authorization"])
        says(200, encoded(shop(1)))(handler)

    with server(answer) as host:
        source = DaemonSource(f"http://{prefix}{host}", interval=1.0)
        source.check()
        assert source.where == f"http://{host}"
    (given,) = heard
    assert given == (f"Basic {base64.b64encode(wanted.encode()).decode()}" if wanted else None)


def test_a_password_without_a_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable without a colon is a mistake, which is said without showing it."""
    monkeypatch.setenv(AUTH_VARIABLE, "secret")
    with pytest.raises(Unusable, match="should be USER:PASSWORD") as raised:
        DaemonSource("http://localhost:1", interval=1.0)
    assert "secret" not in str(raised.value)


def test_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """https is checked by the system's authorities: a stranger's certificate is refused."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    known = f"{tmp_path}/authorities.pem"
    authority.cert_pem.write_to_path(known)
    with server(says(200, encoded(shop(1))), context=context) as host:
        with pytest.raises(Unusable, match=r"certificate is not to be trusted \(.*SSL_CERT_FILE"):
            DaemonSource(f"https://{host}", interval=1.0).check()
        monkeypatch.setenv("SSL_CERT_FILE", known)
        DaemonSource(f"https://{host}", interval=1.0).check()


def test_a_daemon_that_does_not_poll_any_more() -> None:
    """One that answers with the same view for ever is said to have stopped polling."""
    clock = time.monotonic
    with server(says(200, encoded(shop(1)))) as host:
        source = DaemonSource(f"http://{host}", interval=0.001)
        assert source.next(no_wait) is not None
        source._news = clock() - 60
        with pytest.raises(Unusable, match="has not polled for 60 s"):
            source.next(no_wait)


KEY = ProcessKey(4711, 4200), 4714, 4200
TOLD = json.dumps({**examined_json(EXAMINED), "python_stack_note": ""}).encode()
FRAMES = (Frame("answer", "/srv/shop.py", 71), Frame("run", "/usr/lib/threading.py", 0))


def test_one_thread_is_asked_about() -> None:
    """The daemon is asked by the numbers of the view, and tells all but the arguments of the system call."""
    asked: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(f"{handler.command} {handler.path} {handler.headers['X-Threadwatch']}")
        stack = Stack(4714, "x", True, FRAMES)
        post = handler.command == "POST"
        says(200, json.dumps(python_stack_json(stack)).encode() if post else TOLD)(handler)

    with server(answer) as address:
        source = DaemonSource(f"http://{address}", interval=1)
        assert source.examine(KEY) == replace(EXAMINED, arguments="")
        assert source.stack(KEY) == Stack(None, None, True, FRAMES)
    query = "pid=4711&tid=4714&start_ticks=4200 top"
    assert asked == [f"GET /api/v1/thread?{query}", f"POST /api/v1/stack?{query}"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says(200, b"{}"), "syscall is missing"),
        (says(200, b"no JSON"), "is no JSON"),
        (says(404, b"Not found. There are: /"), "has no /api/v1/"),
        (says(403, b"Python stacks are not switched on\n"), "Python stacks are not switched on"),
        (says(502, b"Cannot be read: stat: denied.\n"), "Cannot be read: stat: denied."),
        (says(401), "wants a user and a password"),
    ],
)
def test_why_one_thread_is_not_told_of(answer: Answer, words: str) -> None:
    """Whatever else a daemon answers about a thread is one line."""
    with server(answer) as address:
        source = DaemonSource(f"http://{address}", interval=1)
        said = source.examine(KEY)
        assert words in str(said)
        with pytest.raises(Unusable, match=words.replace("syscall", "holds_gil")):
            source.stack(KEY)


def test_a_thread_that_the_daemon_does_not_see_has_ended() -> None:
    """A null about a thread means that it is gone."""
    with server(says(200, b"null")) as address:
        source = DaemonSource(f"http://{address}", interval=1)
        with pytest.raises(Gone):
            source.examine(KEY)
        with pytest.raises(Unusable, match="has ended"):
            source.stack(KEY)


@given(st.binary())
def test_any_bytes_about_a_thread(body: bytes) -> None:
    """Any bytes give what a thread does, its stack, or Malformed."""
    for parse in (parse_examined, parse_python_stack):
        with contextlib.suppress(Malformed, Gone):
            parse(body)


def test_a_daemon_that_has_just_come_back_has_time_to_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A daemon without a view is late from its first answer on, not from the time in which it was away."""
    now = 1000.0
    monkeypatch.setattr("threadwatch.top.daemon_source.time.monotonic", lambda: now)
    asked = 0

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        nonlocal asked
        asked += 1
        (says(503, Retry_After="1") if asked < 3 else says(200, encoded(shop(1))))(handler)

    with server(answer) as address:
        source = DaemonSource(f"http://{address}", interval=1)
        now += 100
        assert source.next(no_wait) is not None
