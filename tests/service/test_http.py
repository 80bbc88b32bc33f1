"""The web server over real sockets: what clients get, well-behaved ones and others."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import logging
import re
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests import views
from tests.harness import DEADLINE, asking_and_answering, reserved_port, until, without_cpu_s
from threadwatch.errors import Unusable
from threadwatch.metrics.exporter import Exporter
from threadwatch.web.app import App
from threadwatch.web.connection import MAX_HEAD, Deadlines
from threadwatch.web.listen import Address
from threadwatch.web.messages import Handler, Request, Response, plain
from threadwatch.web.server import WebServer
from threadwatch.web.unix import UnixAddress

LOOPBACK = Address("127.0.0.1", 0)
PATIENCE = DEADLINE
"""Seconds after which a client that should have been answered or dropped gives up."""
LONG = Deadlines(receive=600, keep_alive=600, send=600, linger=1, stop=2)
"""No client is dropped for being slow, so what a test sees is not a deadline."""
GET = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEALTHY = b"threadwatch is healthy.\n"


def application() -> App:
    """Return the application with a sample of everything."""
    exporter = Exporter()
    exporter.publish(views.sample())
    return App(exporter, views.health())


def tcp(server: WebServer) -> list[Address]:
    """Return where it listens over TCP."""
    return [address for address in server.addresses if isinstance(address, Address)]


@contextlib.contextmanager
def serving(
    handler: Handler | None = None,
    *,
    deadlines: Deadlines | None = None,
    max_connections: int = 512,
) -> Iterator[Address]:
    """Yield the address at which a server listens, while the context is entered."""
    server = WebServer(
        [LOOPBACK], handler or application(), deadlines=deadlines, max_connections=max_connections
    )
    server.start()
    try:
        yield tcp(server)[0]
    finally:
        server.stop()


@pytest.fixture
def address() -> Iterator[Address]:
    """Yield a server as the daemon starts it."""
    with serving() as address:
        yield address


@pytest.fixture
def reserved() -> Iterator[Address]:
    """Yield an address on which no other program can listen."""
    with reserved_port() as port:
        yield Address("127.0.0.1", port)


def connect(address: Address) -> socket.socket:
    """Return a connection to the server."""
    return socket.create_connection((address.host, address.port), timeout=PATIENCE)


def connected(address: Address, said: bytes, *, within: float) -> tuple[socket.socket, float]:
    """Return a connection on which this was sent before a deadline of so long, and when it began."""
    while True:
        began = time.monotonic()
        client = connect(address)
        client.sendall(said)
        if time.monotonic() - began < within:
            return client, began
        client.close()  # this thread had no CPU, so the server may have dropped it


def read_all(client: socket.socket) -> bytes:
    """Everything up to the end of the connection; a reset is an end."""
    received = []
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            received.append(data)
    return b"".join(received)


def talk(address: Address, *pieces: bytes) -> bytes:
    """Return what the server says to these pieces, sent one by one, until it closes the connection."""
    with connect(address) as client:
        for piece in pieces:
            client.sendall(piece)
        return read_all(client)


def get(
    address: Address, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    """Return one request on a connection of its own."""
    client = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE)
    with contextlib.closing(client):
        client.request(method, path, headers=headers or {})
        response = client.getresponse()
        return response, response.read()


# What a well-behaved client gets


def test_a_name_that_leads_here_by_dns_is_not_answered(address: Address) -> None:
    """A page whose name resolves to this machine reads nothing, and the line says how to allow a name."""
    response, body = get(address, "/api/v1/view", headers={"Host": "evil.example:9749"})
    assert response.status == 421
    assert body.endswith(b"--web.allow-host=NAME.\n")
    assert b"threads" not in body


@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("/", 200, b"<!DOCTYPE html>"),
        ("/metrics", 200, b"# HELP threadwatch_thread_cpu_seconds_total "),
        ("/-/healthy", 200, HEALTHY),
        ("/-/ready", 200, b"threadwatch is ready.\n"),
        ("/nothing", 404, b"Not found."),
    ],
)
def test_get_and_head(address: Address, path: str, status: int, content: bytes) -> None:
    """Each path answers GET with its body, and HEAD with the same headers and no body."""
    response, body = get(address, path)
    assert response.status == status
    assert body.startswith(content)
    assert int(response.headers["Content-Length"]) == len(body)
    assert response.headers["Date"].endswith(" GMT")
    head, nothing = get(address, path, "HEAD")
    assert (head.status, nothing) == (status, b"")
    assert {**head.headers, "Date": ""} == {**response.headers, "Date": ""}


def test_formats_and_compression_are_negotiated(address: Address) -> None:
    """OpenMetrics and gzip go to the client that asks for them."""
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}
    response, body = get(address, "/metrics", headers=wanted)
    assert (
        response.headers["Content-Type"]
        == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body).endswith(b"\n# EOF\n")
    plain_response, plain_body = get(address, "/metrics", headers={"Accept-Encoding": "gzip;q=0"})
    assert plain_response.headers["Content-Encoding"] is None
    assert plain_body.startswith(b"# HELP ")


def test_a_connection_serves_many_requests(address: Address) -> None:
    """A client that keeps its connection is answered on it again and again."""
    client = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE)
    with contextlib.closing(client):
        client.connect()
        own_port = client.sock.getsockname()[1]
        for path in ("/metrics", "/-/healthy", "/nothing", "/", "/-/ready") * 3:
            client.request("HEAD" if path == "/" else "GET", path)
            client.getresponse().read()
            assert client.sock.getsockname()[1] == own_port


def test_fifty_clients_at_once(address: Address) -> None:
    """Fifty clients that ask at the same moment all get the whole answer."""
    barrier = threading.Barrier(50)

    def scrape(_: int) -> bytes:
        barrier.wait(PATIENCE)
        return get(address, "/metrics", headers={"Accept": "application/openmetrics-text"})[1]

    with ThreadPoolExecutor(50) as pool:
        bodies = set(pool.map(scrape, range(50)))
    assert len(bodies) == 1
    assert bodies.pop().endswith(b"# EOF\n")


def test_pipelined_requests_are_answered_in_order(address: Address) -> None:
    """Requests that come all at once, split anywhere, are answered one after the other."""
    paths = ["/-/healthy", "/-/ready", "/nothing", "/-/healthy"]
    requests = b"".join(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths
    )
    last = b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    received = talk(address, requests[:100], requests[100:] + last)
    assert re.findall(rb"(?:is (\w+)|(Not found))", received) == [
        (b"healthy", b""),
        (b"ready", b""),
        (b"", b"Not found"),
        (b"healthy", b""),
        (b"ready", b""),
    ]


def test_a_request_byte_by_byte(address: Address) -> None:
    """However a request is cut into pieces, it is the same request."""
    request = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert talk(address, *(bytes([byte]) for byte in request)).endswith(HEALTHY)


@pytest.mark.parametrize("end", [b"\r\n", b"Host: localhost\r\n\r\n"])
def test_http_1_0(address: Address, end: bytes) -> None:
    """A client of HTTP/1.0 is answered, with or without Host, and its connection is closed."""
    received = talk(address, b"GET /-/healthy HTTP/1.0\r\n" + end)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(HEALTHY)


def test_a_client_that_has_said_everything(address: Address) -> None:
    """A client may close its own side after the request and still gets the answer."""
    with connect(address) as client:
        client.sendall(GET)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).endswith(HEALTHY)


def test_several_addresses_are_served() -> None:
    """Each listen address is served, over both versions of IP."""
    server = WebServer([LOOPBACK, Address("::1", 0), Address("localhost", 0)], application())
    server.start()
    try:
        assert len(server.addresses) == 3
        assert len({address.port for address in tcp(server)}) == 3
        for address in tcp(server):
            assert get(address, "/-/healthy")[1] == HEALTHY
    finally:
        server.stop()


def unix_get(path: Path) -> bytes:
    """Return what is answered over a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return read_all(client)


def test_a_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    """A path is served beside an address, and nothing of it is left after the end."""
    path = tmp_path / "web.sock"
    server = WebServer([UnixAddress(str(path)), LOOPBACK], application())
    server.start()
    try:
        assert [str(address) for address in server.addresses] == [
            f"unix:{path}",
            str(tcp(server)[0]),
        ]
        assert unix_get(path).endswith(HEALTHY)
        assert get(tcp(server)[0], "/-/healthy")[1] == HEALTHY
    finally:
        server.stop()
    assert not path.exists()


def test_bound_sockets_of_somebody_else_are_served(tmp_path: Path) -> None:
    """Sockets that another process has bound are served as they are; their files are its own."""
    path = tmp_path / "theirs.sock"
    listener = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(path))
    server = WebServer([LOOPBACK], application(), sockets=[listener, unix])
    port = listener.getsockname()[1]
    server.start()
    try:
        assert [str(address) for address in server.addresses[1:]] == [
            f"127.0.0.1:{port}",
            f"unix:{path}",
        ]
        for address in tcp(server):
            assert get(address, "/-/healthy")[1] == HEALTHY
        assert unix_get(path).endswith(HEALTHY)
    finally:
        server.stop()
    assert path.exists()


# # what all other clients get


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a client that expects TLS
        (b"GARBAGE\r\n\r\n", 400),
        (b"\r\n\r\n\r\n", 400),
        (b"\0" * 100, 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # without Host
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
        ),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),  # a client that expects HTTP/2
        (b"GET /" + b"a" * 2 * MAX_HEAD + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * MAX_HEAD, 431),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        (b"CONNECT host:1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_what_is_no_request_is_refused(address: Address, request_line: bytes, status: int) -> None:
    """Anything but HTTP is answered with the status that says why, in plain text, and the connection ends."""
    received = talk(address, request_line)
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in received
    assert b"\r\nConnection: close\r\n" in received
    assert len(re.findall(rb"HTTP/1.1 \d", received)) == 1
    assert get(address, "/-/healthy")[1] == HEALTHY


@pytest.mark.parametrize(
    "accept",
    [
        b"\xff\xfe",
        b";;;,,,q=",
        b"application/openmetrics-text;version=a.b;q=1",
        b"*" * 10_000,
        b"\x01",
        b"",
    ],
)
def test_a_malformed_accept_header_gets_plain_text(address: Address, accept: bytes) -> None:
    """What makes no sense in an Accept header is never a server error."""
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: " + accept
    received = talk(address, request + b"\r\nAccept-Encoding: " + accept + b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in received


def test_other_methods_are_not_allowed(address: Address) -> None:
    """POST is answered with what is allowed."""
    response, _ = get(address, "/metrics", "POST")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 50000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nnot a chunk\r\n"],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_bodies_are_not_read(address: Address, method: bytes, framing: bytes) -> None:
    """A request with a body is answered at once, whole, and the connection ends there."""
    with connect(address) as client:
        client.sendall(method + b" /-/healthy HTTP/1.1\r\nHost: localhost\r\n" + framing)
        with contextlib.suppress(ConnectionError):  # it may be closed while we send
            for _ in range(30):
                client.sendall(b"x" * 10_000)
        received = read_all(client)
    assert received.startswith(b"HTTP/1.1 200" if method == b"GET" else b"HTTP/1.1 405")
    assert b"\r\nConnection: close\r\n" in received
    assert received.endswith(b"\n")


def test_who_sends_a_body_can_finish_and_read_the_answer() -> None:
    """A client that sends its body to the end is not reset meanwhile, which would take the answer away."""
    with serving(deadlines=replace(LONG, linger=600)) as address, connect(address) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n")
        for _ in range(200):
            client.sendall(b"x" * 100_000)
        client.shutdown(socket.SHUT_WR)
        received = read_all(client)
    assert received.startswith(b"HTTP/1.1 405 ")
    assert received.endswith(b"use GET, HEAD.\n")


def test_who_sends_a_body_without_end_is_cut_off() -> None:
    """A client that goes on sending after its answer is dropped a moment later."""
    with serving(deadlines=replace(LONG, linger=0.2)) as address, connect(address) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        end = time.monotonic() + PATIENCE
        with pytest.raises(ConnectionError):
            _send_until(end, client, b"x" * 1000)
        assert time.monotonic() < end


def _send_until(end: float, client: socket.socket, data: bytes) -> None:
    """Send ``data`` again and again up to that time."""
    while time.monotonic() < end:
        client.sendall(data)


def test_an_upgrade_is_declined(address: Address) -> None:
    """A client that would like another protocol is served this one, and may go on."""
    upgrade = (
        b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    )
    last = b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    received = talk(address, upgrade, last)
    assert received.count(b"HTTP/1.1 200 OK") == 2


def test_an_error_of_ours_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """If the application fails, the client gets 500 without details, the log has them, and life goes on."""

    def failing(request: Request) -> Response:
        if request.target == "/fail":
            raise RuntimeError("secret cause")
        return plain(200, "fine")

    with serving(failing) as address:
        response, body = get(address, "/fail")
        assert (response.status, b"cause" in body) == (500, False)
        assert get(address, "/")[1] == b"fine\n"
    assert "RuntimeError: secret cause" in caplog.text


# What slow and broken clients cannot do


def test_a_silent_client_is_dropped() -> None:
    """A connection on which nothing comes is closed without a word after its deadline."""
    with serving(deadlines=replace(LONG, receive=0.2)) as address:
        assert talk(address) == b""


def test_a_slow_sender_is_told_and_dropped() -> None:
    """A request that does not come whole in time is answered with 408, however steadily it trickles in."""
    begun = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    with (
        serving(deadlines=replace(LONG, receive=0.5)) as address,
        connected(address, begun, within=0.5)[0] as client,
    ):
        ended = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    client.sendall(b"A: b\r\n")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            received = read_all(client)
        finally:
            ended.set()
            thread.join()
    assert received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_an_idle_connection_is_dropped_later_than_a_silent_one() -> None:
    """Between requests a client may wait for longer than within one, and is then dropped without a word."""
    deadlines = replace(LONG, receive=0.2, keep_alive=1.5)
    with serving(deadlines=deadlines) as address:
        client, began = connected(address, GET, within=0.2)
        with client:
            assert client.recv(65536).endswith(HEALTHY)
            assert read_all(client) == b""
        assert time.monotonic() - began >= 1.5


def test_a_client_that_does_not_read_is_dropped() -> None:
    """A client that does not take a large response in time is dropped, and delays no other meanwhile."""

    def large(request: Request) -> Response:
        return Response(200, (), b"x" * 50_000_000 if request.target == "/large" else b"small")

    with serving(large, deadlines=replace(LONG, send=1)) as address, connect(address) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert get(address, "/")[1] == b"small"
        # readable at once, but we read only when the server has given up: then the end is missing
        until(lambda: not _has_peer(client, address), "the connection is dropped")
        assert len(read_all(client)) < 50_000_000


def test_a_client_that_only_sends_is_not_read_from() -> None:
    """A client that sends without end and takes no response fills the kernel's buffers, not our memory."""
    body = b"x" * 50_000_000
    with (
        serving(lambda _: Response(200, (), body), deadlines=LONG) as address,
        connect(address) as client,
    ):
        client.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200_000_000:
                sent += client.send(GET * 10_000)
        assert sent < 100_000_000
        client.settimeout(PATIENCE)
        assert client.recv(10)


def _has_peer(client: socket.socket, address: Address) -> bool:
    """Return whether the server's end of the connection is still open, as the kernel lists it."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        ends = {tuple(line.split()[1:4]) for line in table}
    own = f"0100007F:{client.getsockname()[1]:04X}"
    return any(
        (local, remote, state) == (f"0100007F:{address.port:04X}", own, "01")
        for local, remote, state in ends
    )


def test_silent_and_slow_clients_delay_nobody() -> None:
    """While 300 clients say nothing and 100 send a byte at a time, a scrape is answered within a second.

    The time for which the kernel gives no CPU to the threads that ask and answer is not counted.
    """
    with serving() as address, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(address)) for _ in range(300)]
        slow = [stack.enter_context(connect(address)) for _ in range(100)]
        ended = threading.Event()

        def trickle() -> None:
            request = b"GET /metrics HTTP/1.1\r\nX-Slow: " + b"x" * 10_000
            for byte in request:
                for client in slow:
                    with contextlib.suppress(OSError):
                        client.sendall(bytes([byte]))
                if ended.wait(0.2):
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            times = []
            for _ in range(5):
                began = time.monotonic() - without_cpu_s(asking_and_answering())
                assert get(address, "/metrics")[0].status == 200
                times.append(time.monotonic() - without_cpu_s(asking_and_answering()) - began)
        finally:
            ended.set()
            thread.join()
        assert sorted(times)[2] < 1
        assert len(silent) == 300


def test_connections_beyond_the_cap_replace_those_that_wait_longest() -> None:
    """With all places taken by clients that say nothing, a new one is served and the oldest is dropped."""
    with serving(deadlines=LONG, max_connections=5) as address, contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(connect(address)) for _ in range(5)]
        for client in (*waiting, waiting[0]):  # so the second has waited longest
            client.sendall(GET)
            assert client.recv(65536).endswith(HEALTHY)
        assert get(address, "/-/healthy")[1] == HEALTHY
        assert read_all(waiting[1]) == b""
        for client in (waiting[0], *waiting[2:]):
            client.sendall(GET)
            assert client.recv(65536).endswith(HEALTHY)


def test_a_full_server_that_answers_everybody_drops_the_newest() -> None:
    """If no connection waits for its client, one beyond the cap is dropped; it fits in when one ends."""
    body = b"x" * 50_000_000
    with (
        serving(lambda _: Response(200, (), body), deadlines=LONG, max_connections=2) as address,
        contextlib.ExitStack() as stack,
    ):
        taking = [stack.enter_context(connect(address)) for _ in range(2)]
        for client in taking:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert client.recv(10)  # the response has begun
        assert talk(address) == b""
        assert len(read_all(taking[0])) > len(body)
        assert len(get(address, "/")[1]) == len(body)


def test_clients_that_reset_are_forgotten(address: Address) -> None:
    """A client that goes away at any point, with a reset, leaves nothing behind."""
    for request in (b"", b"GET", GET, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n") * 10:
        client = connect(address)
        client.sendall(request)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert get(address, "/-/healthy")[1] == HEALTHY


def test_running_out_of_descriptors_is_survived(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a descriptor for a new connection the server says so, and serves it when there is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert get(address, "/-/healthy")[1] == HEALTHY
    with connect(address) as old:
        old.sendall(GET)
        assert old.recv(65536).endswith(HEALTHY)
        new = socket.socket()
        new.settimeout(PATIENCE)
        with new:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                new.connect((address.host, address.port))
                new.sendall(GET)
                until(lambda: "out of system resource" in caplog.text, "the server says so")
                old.sendall(GET)  # who is connected is served
                assert old.recv(65536).endswith(HEALTHY)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert new.recv(65536).endswith(HEALTHY)
    assert "Traceback" not in caplog.text


# Starting and stopping


def test_a_port_in_use_is_one_clear_line(address: Address, reserved: Address) -> None:
    """A server that cannot have one of its addresses has none, and says which one and why."""
    server = WebServer([reserved, address], application())
    with pytest.raises(
        Unusable, match=re.escape(f"cannot listen on {address}: the port is in use")
    ):
        server.start()
    assert server.addresses == ()
    with pytest.raises(ConnectionRefusedError):
        connect(reserved)
    server.stop()


def test_stop_frees_port_and_thread(reserved: Address) -> None:
    """After stop() nothing listens, no connection and no thread is left; stopping again is harmless."""
    server = WebServer([reserved], application(), deadlines=LONG)
    server.start()
    [address] = tcp(server)
    assert "web" in {thread.name for thread in threading.enumerate()}
    with connect(address) as silent, connect(address) as idle:
        idle.sendall(GET)
        assert idle.recv(65536).endswith(HEALTHY)
        server.stop()
        assert read_all(silent) == b""
        assert read_all(idle) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(address)
    assert "web" not in {thread.name for thread in threading.enumerate()}
    server.stop()
    again = WebServer([address], application())
    again.start()
    again.stop()


def test_failure_is_told(reserved: Address) -> None:
    """A server whose loop has ended by itself says so, and listens no more."""
    server = WebServer([reserved], application())
    server.start()
    [address] = tcp(server)
    assert not server.failed
    assert server._loop is not None
    server._loop.call_soon_threadsafe(server._loop.stop)
    until(lambda: server.failed, "failed")
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(address)


def test_stop_lets_responses_finish() -> None:
    """A response that is on its way when the server stops arrives whole, and is the last one."""
    body = b"x" * 20_000_000
    server = WebServer(
        [LOOPBACK], lambda _: Response(200, (), body), deadlines=replace(LONG, stop=600)
    )
    server.start()
    with connect(tcp(server)[0]) as client:
        client.sendall(GET)
        received = client.recv(1000)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        received += read_all(client)
        stopper.join(PATIENCE)
    assert received.endswith(body)
    assert not stopper.is_alive()


def test_stop_does_not_wait_for_those_who_do_not_read() -> None:
    """A response that its client does not take delays the end by no more than its deadline."""
    body = b"x" * 50_000_000
    server = WebServer(
        [LOOPBACK], lambda _: Response(200, (), body), deadlines=replace(LONG, stop=0.2)
    )
    server.start()
    with connect(tcp(server)[0]) as client:
        client.sendall(GET)
        assert client.recv(10)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize(("level", "lines"), [(logging.INFO, 0), (logging.DEBUG, 2)])
def test_requests_are_logged_for_debugging_only(
    caplog: pytest.LogCaptureFixture, level: int, lines: int
) -> None:
    """At the debug level each request is one line; above it, clients can write nothing into the log."""
    with caplog.at_level(level, logger="threadwatch.web"), serving() as address:
        talk(address, b"GET /?'\x1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n")
        talk(address, b"GET /?'quoted HTTP/1.0\r\n\r\n")
    found = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("threadwatch.web")
    ]
    assert len(found) == lines
    assert all(line.isprintable() for line in found)
    if lines:
        assert 'GET "/?\'quoted": 200' in found[-1]
