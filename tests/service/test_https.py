"""The web server with a web configuration: TLS, client certificates, passwords, headers, and their change."""

from __future__ import annotations

import base64
import contextlib
import http.client
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import bcrypt
import pytest
import trustme

from tests import certificates, views
from tests.harness import DEADLINE, asking_and_answering, reserved_port, until, without_cpu_s
from tests.prometheus import IN_TESTBED, ON_PATH, Prometheus
from tests.testbed import CHECKOUT
from threadwatch.metrics.exporter import Exporter
from threadwatch.web.app import App
from threadwatch.web.auth.access import Access
from threadwatch.web.connection import Deadlines, client_of
from threadwatch.web.listen import Address
from threadwatch.web.messages import Request, Response, plain
from threadwatch.web.server import WebServer

PATIENCE = DEADLINE
"""Seconds after which a client that should have been answered or dropped gives up."""
LONG = Deadlines(handshake=600, receive=600, keep_alive=600, send=600)
"""No client is dropped for being slow, so what a test sees is not a deadline."""
TLS = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
MUTUAL = f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
HASH = bcrypt.hashpw(b"horse", bcrypt.gensalt(4)).decode()
USERS = f"basic_auth_users:\n  alice: {HASH}\n"
ALICE = {"Authorization": "Basic " + base64.b64encode(b"alice:horse").decode()}
HEALTHY = b"threadwatch is healthy.\n"


@dataclass(frozen=True)
class Site:
    """A directory with a web configuration, and the authority of its certificates."""

    directory: Path
    ca: trustme.CA

    @property
    def config(self) -> Path:
        """Return the web configuration."""
        return self.directory / "web.yml"

    def write(self, name: str, content: bytes) -> None:
        """Put a file in the place of another, all at once."""
        new = self.directory / f"{name}.new"
        new.write_bytes(content)
        os.replace(new, self.directory / name)

    def configure(self, text: str) -> None:
        """Write the web configuration."""
        self.write("web.yml", text.encode())

    def renew(self, *names: str) -> trustme.LeafCert:
        """Write a new certificate and key, the key first."""
        leaf = self.ca.issue_cert(*(names or ("localhost",)))
        self.write("key.pem", leaf.private_key_pem.bytes())
        self.write("cert.pem", certificates.chain(leaf))
        return leaf

    def trusting(self, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """Return a client that trusts our certificates, and may have one of its own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        if client is not None:
            client.configure_cert(context)
        return context


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """TLS with a fresh certificate."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    site = Site(tmp_path, ca)
    site.renew()
    site.configure(TLS)
    return site


@contextlib.contextmanager
def serving(
    site: Site, *, deadlines: Deadlines | None = None, max_connections: int = 512, port: int = 0
) -> Iterator[Address]:
    """Yield the address at which a server of this site listens, while the context is entered."""
    server = WebServer(
        [Address("127.0.0.1", port)],
        App(Exporter(), views.health()),
        access=Access(str(site.config)),
        deadlines=deadlines,
        max_connections=max_connections,
    )
    server.start()
    try:
        [address] = server.addresses
        assert isinstance(address, Address)
        yield address
    finally:
        server.stop()


def get(
    address: Address,
    context: ssl.SSLContext | None = None,
    headers: dict[str, str] | None = None,
    path: str = "/-/healthy",
) -> tuple[http.client.HTTPResponse, bytes]:
    """Return one request on a connection of its own, through TLS if there is a context for it."""
    if context is None:
        client = http.client.HTTPConnection("localhost", address.port, timeout=PATIENCE)
    else:
        client = http.client.HTTPSConnection(
            "localhost", address.port, timeout=PATIENCE, context=context
        )
    with contextlib.closing(client):
        client.request("GET", path, headers=headers or {})
        response = client.getresponse()
        return response, response.read()


def connect(address: Address, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a connection through TLS."""
    plain_socket = socket.create_connection((address.host, address.port), timeout=PATIENCE)
    return context.wrap_socket(plain_socket, server_hostname="localhost")


def refused(address: Address, context: ssl.SSLContext, why: str) -> None:
    """Assert that a client with this context gets no answer, for this reason."""
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.BadStatusLine)) as caught:
        get(address, context)
    assert re.search(why, str(caught.value)), caught.value


def serial(address: Address, context: ssl.SSLContext) -> str:
    """Return the number of the certificate that a new connection is served with."""
    context.check_hostname = False
    with connect(address, context) as client:
        return str((client.getpeercert() or {})["serialNumber"])


# TLS


def test_https_is_served(site: Site) -> None:
    """Every path is served through TLS, by a certificate that verifies."""
    with serving(site) as address:
        response, body = get(address, site.trusting())
        assert (response.status, body) == (200, HEALTHY)
        assert get(address, site.trusting(), path="/metrics")[0].status == 200


def test_many_requests_on_one_connection(site: Site) -> None:
    """A connection through TLS is kept, pipelined and closed like any other."""
    request = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(site) as address, connect(address, site.trusting()) as client:
        for _ in range(3):
            client.sendall(request)
            assert client.recv(65536).endswith(HEALTHY)
        client.sendall(request * 3 + request.replace(b"Host", b"Connection: close\r\nHost"))
        received = b""
        while data := client.recv(65536):
            received += data
        assert received.count(HEALTHY) == 4


def test_a_large_response_arrives_whole(site: Site) -> None:
    """What is larger than every buffer arrives as it was sent."""
    body = os.urandom(1 << 20) * 5
    server = WebServer(
        [Address("127.0.0.1", 0)],
        lambda _: Response(200, (), body),
        access=Access(str(site.config)),
    )
    server.start()
    try:
        [address] = server.addresses
        assert isinstance(address, Address)
        assert get(address, site.trusting())[1] == body
    finally:
        server.stop()


def test_http_on_the_port_of_https_is_told(site: Site) -> None:
    """A client that speaks HTTP where HTTPS is served is answered, in HTTP, with 400 and why."""
    with serving(site) as address:
        response, body = get(address)
        assert response.status == 400
        assert b"this address speaks HTTPS" in body


@pytest.mark.parametrize(
    ("config", "version", "spoken"),
    [
        (TLS, None, "TLSv1.3"),
        (TLS, ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        (f"{TLS}  max_version: TLS12\n", None, "TLSv1.2"),
        (f"{TLS}  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", None, "TLSv1.3"),
    ],
)
def test_versions(site: Site, config: str, version: ssl.TLSVersion | None, spoken: str) -> None:
    """The newest version that both sides want is spoken."""
    site.configure(config)
    context = site.trusting()
    if version is not None:
        context.maximum_version = version
    with serving(site) as address, connect(address, context) as client:
        assert client.version() == spoken


@pytest.mark.parametrize(
    ("config", "version"),
    [
        (TLS, ssl.TLSVersion.TLSv1_1),
        (f"{TLS}  min_version: TLS13\n", ssl.TLSVersion.TLSv1_2),
        (f"{TLS}  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", ssl.TLSVersion.TLSv1_2),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_older_versions_are_refused(site: Site, config: str, version: ssl.TLSVersion) -> None:
    """A client that speaks only old versions is told so by an alert."""
    site.configure(config)
    context = site.trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, version
    with serving(site) as address:
        refused(address, context, "PROTOCOL_VERSION|protocol version")


def test_ciphers_and_their_order(site: Site) -> None:
    """Of the suites listed the server's first is taken, or the client's if it shall be so."""
    suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    context = site.trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    for order, bits in (("true", 256), ("false", 128)):
        site.configure(
            f"{TLS}  cipher_suites: [{suites}]\n  prefer_server_cipher_suites: {order}\n"
        )
        with serving(site) as address, connect(address, context) as client:
            cipher = client.cipher()
            assert cipher is not None
            assert cipher[2] == bits
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    with serving(site) as address:
        refused(address, context, "HANDSHAKE_FAILURE|handshake failure")


def test_curves(site: Site) -> None:
    """Only the curve that is listed is spoken."""
    site.configure(f"{TLS}  curve_preferences: [CurveP384]\n")
    context = site.trusting()
    with serving(site) as address:
        context.set_ecdh_curve("secp384r1")
        assert get(address, context)[0].status == 200
        context.set_ecdh_curve("prime256v1")
        refused(address, context, "HANDSHAKE_FAILURE|handshake failure")


def test_inline_pem(site: Site) -> None:
    """Certificate and key can stand in the file itself."""
    text = b"tls_server_config:\n  cert: |\n    @cert.pem@\n  key: |\n    @key.pem@\n"
    site.write("web.yml", certificates.fill_in(text, site.directory))
    with serving(site) as address:
        assert get(address, site.trusting())[0].status == 200


# Client certificates


def test_only_verified_clients_are_let_in(site: Site) -> None:
    """With RequireAndVerifyClientCert a certificate of the right authority is needed."""
    site.configure(MUTUAL)
    with serving(site) as address:
        known = site.ca.issue_cert("scraper.example.org")
        assert get(address, site.trusting(known))[1] == HEALTHY
        refused(address, site.trusting(), "CERTIFICATE_REQUIRED|certificate required|closed|reset")
        stranger = trustme.CA().issue_cert("scraper.example.org")
        refused(address, site.trusting(stranger), "UNKNOWN_CA|unknown ca|closed|reset")
        late = certificates.expired(site.ca)
        refused(address, site.trusting(late), "EXPIRED|expired|closed|reset")
        assert get(address, site.trusting(known))[1] == HEALTHY


def test_a_certificate_may_be_left_out_but_not_be_wrong(site: Site) -> None:
    """With VerifyClientCertIfGiven, no certificate lets a client in, and a wrong one does not."""
    site.configure(MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
    with serving(site) as address:
        assert get(address, site.trusting())[1] == HEALTHY
        assert get(address, site.trusting(site.ca.issue_cert("x.example.org")))[1] == HEALTHY
        stranger = trustme.CA().issue_cert("scraper.example.org")
        refused(address, site.trusting(stranger), "UNKNOWN_CA|unknown ca|closed|reset")


def test_an_intermediate_authority_can_be_the_trusted_one(site: Site) -> None:
    """Clients of one authority below the root are let in, and the root's own are not."""
    below = site.ca.create_child_ca()
    site.write("below.pem", below.cert_pem.bytes())
    site.configure(MUTUAL.replace("ca.pem", "below.pem"))
    with serving(site) as address:
        assert get(address, site.trusting(below.issue_cert("x.example.org")))[1] == HEALTHY
        other = site.ca.issue_cert("x.example.org")
        refused(address, site.trusting(other), "UNKNOWN_CA|unknown ca|closed|reset")


@pytest.mark.parametrize(
    ("names", "let_in"),
    [
        (("scraper.example.org",), True),
        (("other.example.org", "scraper.example.org"), True),
        (("192.0.2.7",), True),
        (("2001:db8::7",), True),
        (("scraper@example.org",), True),
        (("other.example.org",), False),
        (("192.0.2.8",), False),
        (("SCRAPER.example.org.evil",), False),
    ],
)
def test_only_allowed_names_are_let_in(site: Site, names: tuple[str, ...], let_in: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """Of the verified clients, those with one of client_allowed_sans come in."""
    allowed = "[scraper.example.org, 192.0.2.7, '2001:db8::7', scraper@example.org]"
    site.configure(f"{MUTUAL}  client_allowed_sans: {allowed}\n")
    with serving(site) as address:
        context = site.trusting(site.ca.issue_cert(*names))
        if let_in:
            assert get(address, context)[1] == HEALTHY
        else:
            refused(address, context, "")


# Passwords and headers


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/-/healthy", "/-/ready", "/nothing", "/metrics?"]
)
def test_every_path_wants_a_password(site: Site, path: str) -> None:
    """Nothing is served to a client without a password, not even for a path that does not exist."""
    site.configure(USERS)
    with serving(site) as address:
        response, body = get(address, path=path)
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == 'Basic realm="threadwatch", charset="UTF-8"'
        assert body == b"Unauthorized: a user name and a password are needed.\n"
        wrong = {"Authorization": "Basic " + base64.b64encode(b"alice:cow").decode()}
        assert get(address, headers=wrong, path=path)[0].status == 401
        assert get(address, headers=ALICE, path=path)[0].status in (200, 404)


def test_passwords_and_tls_together(site: Site) -> None:
    """With both, both are needed."""
    site.configure(MUTUAL + USERS)
    with serving(site) as address:
        context = site.trusting(site.ca.issue_cert("x.example.org"))
        assert get(address, context)[0].status == 401
        assert get(address, context, ALICE)[1] == HEALTHY


def test_a_slow_password_delays_nobody(site: Site) -> None:
    """While a password is checked for long, others are answered at once, once there is a CPU to do so."""
    slow = HASH.replace("$04$", "$12$")
    site.configure(f"{USERS}  bob: {slow}\n")
    with serving(site) as address:
        assert get(address, headers=ALICE)[1] == HEALTHY
        times: list[float] = []
        number = 0
        while (
            len(times) < 5
        ):  # on a busy machine, one check is over before others have been answered
            number += 1
            bob = {"Authorization": "Basic " + base64.b64encode(b"bob:%d" % number).decode()}
            with ThreadPoolExecutor(1) as pool:
                checked = pool.submit(lambda headers=bob: get(address, headers=headers)[0].status)  # type: ignore[misc]  # mypy cannot infer defaults of a lambda
                while not checked.done():
                    began = time.monotonic() - without_cpu_s(asking_and_answering())
                    assert get(address, headers=ALICE)[1] == HEALTHY
                    times.append(time.monotonic() - without_cpu_s(asking_and_answering()) - began)
                assert checked.result() == 401
        assert sorted(times)[len(times) // 2] < 0.1


def test_a_password_has_its_deadline(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that would have to wait too long for its check is told so."""
    answered = threading.Event()  # no cost is so high that it outlasts every wait for a CPU
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: answered.wait())
    site.configure(USERS)
    try:
        with serving(site, deadlines=replace(LONG, authenticate=0.1)) as address:
            assert get(address, headers=ALICE)[0].status == 503
    finally:
        answered.set()


def test_headers_are_on_every_response(site: Site) -> None:
    """What is configured is on every response, errors too, and replaces a header of our own."""
    site.configure(
        f"{TLS}{USERS}http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n"
        "    Strict-Transport-Security: max-age=60\n    X-XSS-Protection: 0\n"
        "    Content-Security-Policy: default-src 'none'\n    X-Content-Type-Options: nosniff\n"
    )
    with serving(site) as address:
        responses = [
            get(address, site.trusting(), ALICE, path)[0] for path in ("/", "/metrics", "/no")
        ]
        responses += [get(address, site.trusting())[0], get(address)[0]]
        assert [response.status for response in responses] == [200, 200, 404, 401, 400]
        for response in responses:
            for name, value in {
                "X-Frame-Options": "sameorigin",
                "Strict-Transport-Security": "max-age=60",
                "X-XSS-Protection": "0",
                "Content-Security-Policy": "default-src 'none'",
                "X-Content-Type-Options": "nosniff",
            }.items():
                assert response.headers.get_all(name) == [value]


def test_no_secret_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Neither passwords nor hashes nor keys get into the log, whatever goes wrong."""
    site.configure(TLS + USERS)
    with caplog.at_level(logging.DEBUG, logger="threadwatch"), serving(site) as address:
        get(address, site.trusting(), ALICE)
        get(address, site.trusting(), {"Authorization": "Basic aG9yc2U="})
        for text in (
            f"{TLS}{USERS}  bob: horse\n",
            f"{USERS}  x: *horse\n",
            f"{USERS}- horse: h\n",
        ):
            site.configure(text)
            get(address, site.trusting(), ALICE)
    assert caplog.text.count("the new web configuration is bad") == 3
    for secret in ("horse", HASH[10:], "aG9yc2U", ALICE["Authorization"][6:]):
        assert secret not in caplog.text


# Files that change


def test_a_renewed_certificate_is_served_at_once(site: Site) -> None:
    """A new connection has the new certificate, and an old one gets its answer and ends."""
    context = site.trusting()
    with serving(site) as address:
        before = serial(address, context)
        with connect(address, context) as client:
            request = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"
            client.sendall(request)
            assert b"Connection: close" not in client.recv(65536)
            site.renew()
            client.sendall(request)
            received = client.recv(65536)
            assert received.endswith(HEALTHY)
            assert b"Connection: close" in received
            assert client.recv(65536) == b""
        assert serial(address, context) != before


def test_a_file_that_is_written_half_changes_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """A bad change keeps what was served, and is logged once until the next change; a good one is taken."""
    context = site.trusting()
    with caplog.at_level(logging.INFO, logger="threadwatch.web"), serving(site) as address:
        before = serial(address, context)
        leaf = site.ca.issue_cert("localhost")
        site.write("cert.pem", certificates.chain(leaf))  # without its key
        for _ in range(3):
            assert serial(address, context) == before
        site.configure("tls_server_config: {}\nno such section: {}\n")
        for _ in range(3):
            assert serial(address, context) == before
        site.config.unlink()
        assert serial(address, context) == before
        site.configure(TLS)
        site.write("key.pem", leaf.private_key_pem.bytes())
        assert serial(address, context) != before
    errors = [
        record.__dict__["fields"]["error"].message
        for record in caplog.records
        if record.levelno == logging.ERROR
    ]
    assert [message.partition(":")[0] for message in errors[:3]] == [
        "the key does not belong to the certificate of tls_server_config.cert_file",
        "unknown key",
        "is not there",
    ]
    assert caplog.records[-1].getMessage() == "web configuration read again"
    assert len(errors) <= 4  # the configuration may have been seen before its key


def test_users_change_without_a_restart(site: Site) -> None:
    """A user who is removed is kept out from the next request on, on an open connection too."""
    site.configure(USERS)
    with serving(site) as address:
        client = http.client.HTTPConnection("localhost", address.port, timeout=PATIENCE)
        with contextlib.closing(client):
            for text, status in ((USERS, 200), (USERS.replace("alice", "bob"), 401), ("{}", 200)):
                site.configure(text)
                client.request("GET", "/-/healthy", headers=ALICE)
                response = client.getresponse()
                response.read()
                assert response.status == status


@pytest.mark.parametrize("after", [TLS, MUTUAL, f"{TLS}  min_version: TLS13\n"])
def test_a_connection_under_other_rules_ends(site: Site, after: str) -> None:
    """When TLS begins, or lets in fewer, connected clients get no answer any more."""
    before = "{}\n" if after == TLS else TLS
    site.configure(before)
    with serving(site) as address:
        open_connection = (
            connect(address, site.trusting())
            if before == TLS
            else socket.create_connection((address.host, address.port), timeout=PATIENCE)
        )
        with open_connection as client:
            request = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"
            client.sendall(request)
            assert client.recv(65536).endswith(HEALTHY)
            site.configure(after)
            client.sendall(request)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(65536) == b""


def test_reload_reads_what_has_not_changed(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """reload() reads the files in any case, and says so."""
    with caplog.at_level(logging.INFO, logger="threadwatch.web"):
        server = WebServer(
            [Address("127.0.0.1", 0)], lambda _: plain(200, ""), access=Access(str(site.config))
        )
        server.start()
        try:
            server.reload()
            until(lambda: "web configuration read again" in caplog.text, "the server says so")
        finally:
            server.stop()
        server.reload()  # harmless


# Clients that hold on


def test_silent_clients_are_dropped(site: Site) -> None:
    """A client that does not shake hands, or stops half way, is dropped after its deadline."""
    with serving(site, deadlines=replace(LONG, handshake=0.3)) as address:
        for said in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            with socket.create_connection((address.host, address.port), timeout=PATIENCE) as client:
                client.sendall(said)
                with contextlib.suppress(ConnectionResetError):
                    assert client.recv(100) == b""


def test_silent_clients_take_no_place(site: Site) -> None:
    """With all places taken by clients that have not shaken hands, one that does is served."""
    with (
        serving(site, deadlines=LONG, max_connections=5) as address,
        contextlib.ExitStack() as all_,
    ):
        for _ in range(20):
            all_.enter_context(socket.create_connection((address.host, address.port)))
        for _ in range(3):
            assert get(address, site.trusting())[1] == HEALTHY


def test_strangers_cannot_push_out_who_is_served(site: Site) -> None:
    """However many come without a password, a connection that has been served stays."""
    site.configure(USERS)
    with serving(site, deadlines=LONG, max_connections=5) as address:
        client = http.client.HTTPConnection("localhost", address.port, timeout=PATIENCE)
        with contextlib.closing(client), contextlib.ExitStack() as strangers:
            client.request("GET", "/-/healthy", headers=ALICE)
            client.getresponse().read()
            own = client.sock.getsockname()
            for _ in range(20):
                stranger = http.client.HTTPConnection("localhost", address.port, timeout=PATIENCE)
                strangers.enter_context(contextlib.closing(stranger))
                stranger.request("GET", "/-/healthy")
                assert stranger.getresponse().status == 401
            client.request("GET", "/-/healthy", headers=ALICE)
            assert client.getresponse().read() == HEALTHY
            assert client.sock.getsockname() == own


def test_who_has_many_connections_loses_his_own(site: Site) -> None:
    """When places run out, an address that holds many of them makes room, and one that has one stays."""
    site.configure("{}\n")
    with (
        serving(site, deadlines=LONG, max_connections=5) as address,
        contextlib.ExitStack() as all_,
    ):
        few = socket.socket()
        all_.enter_context(few)
        few.settimeout(PATIENCE)
        few.bind(("127.0.0.2", 0))
        few.connect((address.host, address.port))
        for _ in range(20):
            all_.enter_context(socket.create_connection((address.host, address.port)))
        few.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert few.recv(65536).endswith(HEALTHY)


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        (("192.0.2.7", 1234), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1234, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1234, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1234, 0, 2), "fe80::/64"),
        ("", "unix"),
        (b"", "unix"),
        (None, "unix"),
    ],
)
def test_whom_a_connection_is_charged_to(peer: object, client: str) -> None:
    """Addresses that one machine can have at will are one client."""
    assert client_of(peer) == client


def test_a_request_is_seen_as_it_was_sent(site: Site) -> None:
    """TLS changes nothing in what the application sees."""
    seen: list[Request] = []

    def handler(request: Request) -> Response:
        seen.append(request)
        return plain(200, "")

    server = WebServer([Address("127.0.0.1", 0)], handler, access=Access(str(site.config)))
    server.start()
    try:
        [address] = server.addresses
        assert isinstance(address, Address)
        get(address, site.trusting(), {"Accept": "a/b"}, "/x?y=1")
    finally:
        server.stop()
    assert (seen[0].target, seen[0].headers["accept"]) == ("/x?y=1", "a/b")


def is_healthy(address: Address) -> bool:
    """Return whether the image's health check, as the image runs it, is content with an address."""
    program = CHECKOUT / "threadwatch/commands/healthcheck.py"
    ask = f"import runpy; runpy.run_path({str(program)!r})['ask']({str(address)!r})"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ask], capture_output=True, timeout=60, check=False
    )
    return done.returncode == 0


@pytest.mark.parametrize("config", ["{}\n", USERS, TLS, MUTUAL + USERS])
def test_the_image_finds_itself_healthy(site: Site, config: str) -> None:
    """Whatever the web configuration, the image's health check passes while the daemon serves."""
    site.configure(config)
    with reserved_port() as port:
        with serving(site, port=port) as address:
            assert is_healthy(address)
        assert not is_healthy(address)


def failed(prometheus: Prometheus) -> list[float]:
    """Return how long the scrapes took that failed, but for those that had no answer in their second."""
    (up,), (took,) = (
        prometheus.samples(f'{metric}{{job="threadwatch"}}', "1m")
        for metric in ("up", "scrape_duration_seconds")
    )
    seconds = [took.values[time] for time, value in up.values.items() if value == 0]
    return [one for one in seconds if one < 1]


def why_not(prometheus: Prometheus, word: str) -> bool:
    """Return whether the last scrape as a stranger failed for a reason with this word."""
    return word in prometheus.targets()["stranger"]["lastError"]


def test_prometheus_scrapes_through_a_renewal(site: Site, tmp_path: Path) -> None:
    """A Prometheus 2 and a 3 with certificate and password scrape, and go on when ours is renewed."""
    scraper = site.ca.issue_cert("scraper.example.org")
    site.write("scraper.pem", certificates.chain(scraper))
    site.write("scraper-key.pem", scraper.private_key_pem.bytes())
    site.renew("127.0.0.1")
    site.configure(f"{MUTUAL}  client_allowed_sans: [scraper.example.org]\n{USERS}")
    served: list[str] = []
    exporter = Exporter()
    exporter.publish(views.sample())
    app = App(exporter, views.health())

    def handler(request: Request) -> Response:
        served.append(request.target)
        return views.answered(app, request)

    server = WebServer([Address("127.0.0.1", 0)], handler, access=Access(str(site.config)))
    server.start()
    try:
        config = f"""
global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs:
  - job_name: threadwatch
    scheme: https
    scrape_interval: 1s
    scrape_timeout: 1s
    tls_config:
      ca_file: {site.directory}/ca.pem
      cert_file: {site.directory}/scraper.pem
      key_file: {site.directory}/scraper-key.pem
    basic_auth: {{username: alice, password: horse}}
    static_configs: [{{targets: ["{server.addresses[0]}"]}}]
  - job_name: stranger
    scheme: https
    tls_config: {{ca_file: {site.directory}/ca.pem}}
    static_configs: [{{targets: ["{server.addresses[0]}"]}}]
"""
        with contextlib.ExitStack() as stack:
            both = []
            for name, command in (("2", ON_PATH), ("3", IN_TESTBED)):
                (tmp_path / name).mkdir()
                both.append(Prometheus(tmp_path / name, config=config, command=command))
                stack.enter_context(both[-1])
            for prometheus in both:
                prometheus.wait_for('up{job="threadwatch"} == 1')
            [address] = server.addresses
            assert isinstance(address, Address)
            before = serial(address, site.trusting(scraper))
            site.renew("127.0.0.1")
            count = len(served)
            until(lambda: len(served) >= count + 10, "more scrapes")
            assert serial(address, site.trusting(scraper)) != before
            for prometheus in both:
                prometheus.wait_for('sum_over_time(up{job="threadwatch"}[1m]) >= 6')
                assert failed(prometheus) == []
                prometheus.wait_for('up{job="stranger"} == 0')
                until(partial(why_not, prometheus, "certificate"), "the stranger is told why")
    finally:
        server.stop()
