"""Serves one client's connection: requests in, responses out, by h11, each step with its deadline.

:meth:`Connection.run` shakes hands, then receives a request, authenticates the client and answers,
as long as the client keeps the connection. Bytes that are not a request get a status (400, 408,
431, 501, 505) and end the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import h11

from threadwatch.web.auth.access import Access, Rules
from threadwatch.web.auth.passwords import Passwords
from threadwatch.web.auth.tls import Tls
from threadwatch.web.hosts import Hosts
from threadwatch.web.messages import Handler, Request, Response, plain
from threadwatch.web.stream import PlainStream, Stream, TlsStream

logger = logging.getLogger(__name__)

MAX_HEAD: Final = 16 * 1024
"""A request whose head has not ended after this many bytes is refused."""
CHUNK: Final = 64 * 1024

_CHALLENGE: Final = ("WWW-Authenticate", 'Basic realm="threadwatch", charset="UTF-8"')
_VERSIONS: Final = (b"1.0", b"1.1")
_REFUSALS: Final = {
    400: "this is not an HTTP/1.1 request",
    431: f"request line and headers may be {MAX_HEAD} bytes",
    501: "this transfer encoding is unknown here",
}


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The deadlines of a client, in seconds."""

    handshake: float = 10.0
    """For the whole handshake of TLS."""
    receive: float = 10.0
    """From connection or handshake to the first byte; from a request's first byte to its head's end."""
    keep_alive: float = 120.0
    """From a response to the next request: longer than a scrape interval of a minute."""
    authenticate: float = 30.0
    """For checking a password, including the wait for other clients' checks."""
    send: float = 30.0
    """For taking a whole response."""
    linger: float = 1.0
    """For reading the last response before the connection is closed on what it still sends."""
    stop: float = 2.0
    """For responses that are under way when the server stops."""


class Connection:
    """One client's connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handler: Handler,
        deadlines: Deadlines,
        access: Access,
        passwords: Passwords,
        waiting: Callable[[Connection], AbstractContextManager[None]],
        hosts: Hosts,
    ) -> None:
        """``waiting`` makes the context in which the connection may be dropped in favour of another one."""
        self._stream: Stream = PlainStream(reader, writer)
        self._writer = writer
        self._handler = handler
        self._deadlines = deadlines
        self._access = access
        self._passwords = passwords
        self._waiting = waiting
        self._hosts = hosts
        self._tls: Tls | None = None
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._peer = writer.get_extra_info("peername")
        self.client = client_of(self._peer)
        """The address without the port: the client that is charged with the costs."""
        self.served = False
        """Whether the client has received a response, and so is no stranger any more."""

    async def run(self) -> None:
        """Answer requests until the client goes, fails a deadline or breaks the protocol."""
        try:
            # A client that has just connected is about to send a request.
            patience = self._deadlines.receive
            going_on = await self._shake_hands()
            while going_on and await self._serve_one(patience):
                patience = self._deadlines.keep_alive
                await asyncio.sleep(0)  # let other connections run first
        except OSError as error:  # a reset; TimeoutError: a response was not taken in time
            logger.debug("%s: connection lost: %s", self._peer, str(error) or "too slow")
            self.abort()
        except asyncio.CancelledError:  # the server stops: the rest will not be sent
            self.abort()
            raise
        finally:
            self._writer.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()

    async def _shake_hands(self) -> bool:
        """Begin with TLS if the rules ask for it. Return False if the connection has to end."""
        self._tls = self._access.look().tls
        if self._tls is None:
            return True
        stream = TlsStream(self._stream, self._tls.context)
        try:
            with self._waiting(self):
                async with asyncio.timeout(self._deadlines.handshake):
                    certificate = await stream.handshake()
        except ssl.SSLError as error:
            logger.debug("%s: no TLS: %s", self._peer, error.reason or error)
            if error.reason == "HTTP_REQUEST":
                return await self._refuse(400, "this is HTTP, but this address speaks HTTPS")
            await self._linger()
            return False
        self._stream = stream
        if not self._tls.lets_in(certificate):
            logger.debug("%s: refused: the certificate has none of the names allowed", self._peer)
            await self._linger()
            return False
        return True

    async def _serve_one(self, patience: float) -> bool:
        """Receive and answer one request. Return False if the connection has to end."""
        try:
            with self._waiting(self):
                request = await self._receive(patience)
        except TimeoutError:
            return await self._refuse(408, "the request was not complete in time")
        except h11.RemoteProtocolError as error:
            return await self._refuse(
                error.error_status_hint, _REFUSALS.get(error.error_status_hint, "")
            )
        if request is None:
            return False
        if request.http_version not in _VERSIONS:
            return await self._refuse(505, "this server speaks HTTP/1.1")
        rules = self._access.look()
        if rules.policy != (self._tls.policy if self._tls else None):
            return False  # the rules have changed: the client would not be let in now, or not like this
        return await self._answer(_request(request), rules)

    async def _receive(self, patience: float) -> h11.Request | None:
        """Return the next request's head; None if the client closes or is silent for ``patience``."""
        event = self._http.next_event()  # from bytes that came with the request before
        if event is h11.NEED_DATA and not self._http.trailing_data[0]:
            try:
                async with asyncio.timeout(patience):
                    data = await self._stream.read(MAX_HEAD)
            except TimeoutError:
                return None
            self._http.receive_data(data)
            event = self._http.next_event()
        async with asyncio.timeout(self._deadlines.receive):
            while event is h11.NEED_DATA:
                self._http.receive_data(await self._stream.read(MAX_HEAD))
                event = self._http.next_event()
        return event if isinstance(event, h11.Request) else None

    async def _answer(self, request: Request, rules: Rules) -> bool:
        began = time.monotonic()
        # After a certificate has been renewed, the client should connect anew and see it.
        last = self._has_body() or rules.tls is not self._tls
        response = await self._keep_out(request, rules)
        if response is None:
            self.served = True
            response = await self._handle(request)
        await self._send(response, head_only=request.method == "HEAD", last=last)
        logger.debug(
            "%s: %s %r: %d, %d bytes, %.1f ms",
            self._peer,
            request.method,
            request.target,
            response.status,
            len(response.body),
            1000 * (time.monotonic() - began),
        )
        if self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self._http.start_next_cycle()
            return True
        await self._linger()
        return False

    async def _keep_out(self, request: Request, rules: Rules) -> Response | None:
        """Return the response for a client that may not come in; None if it may."""
        if not rules.users:
            if self._tls is not None:
                return None
            here = self._writer.get_extra_info("sockname")
            refusal = self._hosts.refusal(request.headers.get("host", ""), here)
            return None if refusal is None else plain(421, refusal)
        said = request.headers.get("authorization", "")
        try:
            with self._waiting(self):
                async with asyncio.timeout(self._deadlines.authenticate):
                    if await self._passwords.let_in(rules.users, said, self.client):
                        return None
        except TimeoutError:
            return plain(503, "Service unavailable: too many passwords are being checked.")
        return plain(401, "Unauthorized: a user name and a password are needed.", _CHALLENGE)

    async def _handle(self, request: Request) -> Response:
        try:
            response = self._handler(request)
            if isinstance(response, Response):
                return response
            with self._waiting(self):
                return await response
        except Exception:  # a fault of ours ends this request alone
            logger.exception("%s %r failed", request.method, request.target)
            return plain(500, "Internal server error: the log has the details.")

    def _has_body(self) -> bool:
        """Return whether the request has a body. We read no bodies: the connection ends there."""
        try:
            return not isinstance(self._http.next_event(), h11.EndOfMessage)
        except h11.RemoteProtocolError:
            return True

    async def _refuse(self, status: int, why: str) -> bool:
        """Answer bytes that are not a request, and end the connection."""
        phrase = HTTPStatus(status).phrase
        logger.debug("%s: refused: %d %s", self._peer, status, phrase)
        await self._send(plain(status, f"{phrase}: {why}." if why else f"{phrase}."), last=True)
        await self._linger()
        return False

    async def _send(self, response: Response, *, last: bool, head_only: bool = False) -> None:
        """Send a response. Raise TimeoutError if the client takes too long to receive it."""
        added = self._access.rules.headers
        names = {name.lower() for name, _ in added}
        headers = [
            *(pair for pair in response.headers if pair[0].lower() not in names),
            *added,
            ("Content-Length", str(len(response.body))),
            ("Date", formatdate(usegmt=True)),
            *([("Connection", "close")] if last else []),
        ]
        head = h11.Response(
            status_code=response.status,
            headers=headers,
            reason=HTTPStatus(response.status).phrase.encode(),
        )
        data = self._http.send(head) or b""
        body = memoryview(b"" if head_only else response.body)
        async with asyncio.timeout(self._deadlines.send):
            for start in range(0, len(body), CHUNK):
                data += self._http.send(h11.Data(data=body[start : start + CHUNK])) or b""  # type: ignore[arg-type]  # any buffer will do
                await self._stream.write(data)
                data = b""
            await self._stream.write(data + (self._http.send(h11.EndOfMessage()) or b""))

    async def _linger(self) -> None:
        """Close our side, and read on for a moment: a reset would destroy the response on its way."""
        await self._stream.finish()
        with contextlib.suppress(TimeoutError), self._waiting(self):
            async with asyncio.timeout(self._deadlines.linger):
                while await self._stream.read(CHUNK):
                    pass


def client_of(peer: object) -> str:
    """Return the client behind an address: one machine has a /64 of IPv6, or should."""
    if not isinstance(peer, tuple):
        return "unix"
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _request(event: h11.Request) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(event.method.decode("ascii"), event.target.decode("ascii"), headers)
