"""Reads and writes a client's bytes, plain or through TLS.

TLS is done here and not by asyncio, for two reasons. A connection counts, has its deadlines and can
be dropped from its first moment on, handshake included. And each connection gets the certificate
that is valid at its start. The cryptography is :mod:`ssl`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

CHUNK: Final = 16 * 1024
"""At most this much is read at once: a record of TLS."""

_T = TypeVar("_T")


class Stream(Protocol):
    """Bytes from and to a client."""

    async def read(self, most: int) -> bytes:
        """Return the bytes that have come, at most ``most``; empty at the end."""

    async def write(self, data: bytes) -> None:
        """Hand ``data`` to the kernel, all of it."""

    async def finish(self) -> None:
        """Announce that nothing more will be written."""


class PlainStream:
    """Bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        # drain() then waits until the kernel has everything: our memory keeps nothing for a client
        # that does not read, and close() has nothing left to wait for.
        writer.transport.set_write_buffer_limits(0)

    async def read(self, most: int) -> bytes:
        """Return the bytes that have come, at most ``most``; empty at the end."""
        return await self._reader.read(most)

    async def write(self, data: bytes) -> None:
        """Hand ``data`` to the kernel, all of it."""
        self._writer.write(data)
        await self._writer.drain()

    async def finish(self) -> None:
        """Announce that nothing more will be written."""
        if self._writer.can_write_eof():
            self._writer.write_eof()


class TlsStream:
    """Bytes through TLS, with us as the server. Raises :class:`ssl.SSLError`, which is an OSError."""

    def __init__(self, stream: Stream, context: ssl.SSLContext) -> None:
        """Reading and writing work only after :meth:`handshake`."""
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> dict[str, Any] | None:
        """Shake hands; return the client's certificate, if one was requested, sent and verified."""
        await self._do(self._tls.do_handshake)
        return self._tls.getpeercert()

    async def read(self, most: int) -> bytes:
        """Return the bytes that have come, at most ``most``; empty at the end."""
        try:
            return await self._do(lambda: self._tls.read(most))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""  # even without a farewell: an incomplete head is no request anyway

    async def write(self, data: bytes) -> None:
        """Hand ``data`` to the kernel, all of it."""
        if data:
            await self._do(lambda: self._tls.write(data))

    async def finish(self) -> None:
        """Announce that nothing more will be written."""
        with contextlib.suppress(
            ssl.SSLError
        ):  # it waits for the client's farewell, which may never come
            self._tls.unwrap()
        await self._flush()
        await self._stream.finish()

    async def _do(self, call: Callable[[], _T]) -> _T:
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self._stream.read(CHUNK):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError as error:
                # The alert tells the client the reason; a client of HTTP could not read it.
                if error.reason != "HTTP_REQUEST":
                    await self._flush()
                raise
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._stream.write(data)
