"""One client's connection: requests in, responses out, by h11, each step with its deadline.

Its life is :meth:`Connection.run`: receive, answer, again while the client keeps the connection.
What cannot be parsed as a request gets its status (400, 408, 431, 501, 505) and ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import h11

from threadwatch.web.messages import Handler, Request, Response, plain

logger = logging.getLogger(__name__)

MAX_HEAD: Final = 16 * 1024
"""A request whose head has not ended after so many bytes is refused."""
CHUNK: Final = 64 * 1024

_VERSIONS: Final = (b"1.0", b"1.1")
_REFUSALS: Final = {
    400: "this is not an HTTP/1.1 request",
    431: f"request line and headers may be {MAX_HEAD} bytes",
    501: "this transfer encoding is unknown here",
}


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a client may take, in seconds."""

    receive: float = 10.0
    """From the start of the connection to the first byte; from a request's first byte to its head's end."""
    keep_alive: float = 120.0
    """From a response to the next request: longer than a scrape interval of a minute."""
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
        waiting: Callable[[Connection], AbstractContextManager[None]],
    ) -> None:
        """``waiting`` makes the context in which the connection waits for its client."""
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._deadlines = deadlines
        self._waiting = waiting
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._peer = writer.get_extra_info("peername")
        # drain() then waits until the kernel has everything: nothing is left in our memory for a
        # client that does not read, and close() has nothing left to wait for
        writer.transport.set_write_buffer_limits(0)

    async def run(self) -> None:
        """Answer requests until the client goes, fails a deadline or breaks the protocol."""
        try:
            # a client that has just connected has something to say
            patience = self._deadlines.receive
            while await self._serve_one(patience):
                patience = self._deadlines.keep_alive
                await asyncio.sleep(0)  # others' turn, also when more requests are here already
        except OSError as error:  # a reset; TimeoutError: a response that was not taken in time
            logger.debug("%s: connection lost: %s", self._peer, str(error) or "too slow")
            self.abort()
        except (
            asyncio.CancelledError
        ):  # the server stops, and what is not sent by now never will be
            self.abort()
            raise
        finally:
            self._writer.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()

    async def _serve_one(self, patience: float) -> bool:
        """Receive and answer one request. False when the connection is done with."""
        try:
            with self._waiting(self):
                request = await self._receive(patience)
        except TimeoutError:
            return await self._refuse(408, "the request did not come whole in time")
        except h11.RemoteProtocolError as error:
            return await self._refuse(
                error.error_status_hint, _REFUSALS.get(error.error_status_hint, "")
            )
        if request is None:
            return False
        if request.http_version not in _VERSIONS:
            return await self._refuse(505, "this server speaks HTTP/1.1")
        return await self._answer(_request(request))

    async def _receive(self, patience: float) -> h11.Request | None:
        """The next request's head; None if the client closes, or sends nothing in ``patience``."""
        event = self._http.next_event()  # of what came with the request before
        if event is h11.NEED_DATA and not self._http.trailing_data[0]:
            try:
                async with asyncio.timeout(patience):
                    data = await self._reader.read(MAX_HEAD)
            except TimeoutError:
                return None
            self._http.receive_data(data)
            event = self._http.next_event()
        async with asyncio.timeout(self._deadlines.receive):
            while event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(MAX_HEAD))
                event = self._http.next_event()
        return event if isinstance(event, h11.Request) else None

    async def _answer(self, request: Request) -> bool:
        began = time.monotonic()
        last = self._has_body()
        try:
            response = self._handler(request)
        except Exception:
            logger.exception("%s %r failed", request.method, request.target)
            response = plain(500, "Internal server error: the log has the details.")
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

    def _has_body(self) -> bool:
        """Whether the request goes on after its head. We read no bodies: the connection ends there."""
        try:
            return not isinstance(self._http.next_event(), h11.EndOfMessage)
        except h11.RemoteProtocolError:
            return True

    async def _refuse(self, status: int, why: str) -> bool:
        """Answer what is no request, and end the connection."""
        phrase = HTTPStatus(status).phrase
        logger.debug("%s: refused: %d %s", self._peer, status, phrase)
        await self._send(plain(status, f"{phrase}: {why}." if why else f"{phrase}."), last=True)
        await self._linger()
        return False

    async def _send(self, response: Response, *, last: bool, head_only: bool = False) -> None:
        """Send a response. Raises TimeoutError if the client takes too long to take it."""
        headers = [
            *response.headers,
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
                await self._write(data)
                data = b""
            await self._write(data + (self._http.send(h11.EndOfMessage()) or b""))

    async def _write(self, data: bytes) -> None:
        """Hand ``data`` to the kernel, all of it."""
        self._writer.write(data)
        await self._writer.drain()

    async def _linger(self) -> None:
        """Close our side, and read on for a moment: a reset would take the response from the client."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        with contextlib.suppress(TimeoutError), self._waiting(self):
            async with asyncio.timeout(self._deadlines.linger):
                while await self._reader.read(CHUNK):
                    pass


def _request(event: h11.Request) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(event.method.decode("ascii"), event.target.decode("ascii"), headers)
