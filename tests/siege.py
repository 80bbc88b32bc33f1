"""Clients that hold on to a web server all at once, for tests of what it withstands: a process of its own.

``python -m tests.siege --port N [--ca FILE] [--user NAME:PASSWORD] [--seconds N]``. Only on loopback, bounded
in number and time. On standard output, once all have begun and then each second, one JSON object with what
they have done so far; it ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import random
import resource
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field

SILENT = 500
SLOW = 200
MALFORMED = 10
PIPELINING = 10
SCRAPERS = 50
GUESSERS = 10

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
NONSENSE = (
    b"GARBAGE\r\n\r\n",
    b"\0" * 1000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    REQUEST + b"A: b\r\n" * 5000,
    REQUEST + b"Accept: \xff\xfe;;;q=,\r\n\r\n",
    REQUEST + b"Accept: " + b"*/*;q=0.1," * 1000 + b"\r\n\r\n",
    REQUEST
    + b"Accept: application/openmetrics-text;version=a.b;q=1\r\nAccept-Encoding: ;;\r\n\r\n",
    REQUEST + b"Authorization: Basic !!!\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 500,
)


@dataclass(slots=True)
class Siege:
    """All of them, and what they have done."""

    port: int
    tls: ssl.SSLContext | None
    authorization: bytes
    done: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def connected(
        self, *, raw: bool = False
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Yield a connection, through TLS unless ``raw``."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=None if raw else self.tls,
            server_hostname="localhost" if self.tls and not raw else None,
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def again(self, what: Callable[[], Coroutine[None, None, None]], pause: float) -> None:
        """Do it again and again; a client that is dropped comes back."""
        while True:
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
                await what()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    async def say_nothing(self) -> None:
        """Connect and wait for the end; half of them begin a handshake."""
        async with self.connected(raw=True) as (reader, writer):
            self.done["silent"] += 1
            self.done["silent_now"] += 1
            try:
                if random.random() < 0.5:
                    writer.write(NONSENSE[-1][:20])
                while await reader.read(4096):
                    pass
            finally:
                self.done["silent_now"] -= 1

    async def send_slowly(self) -> None:
        """Send a byte a second."""
        async with self.connected() as (_, writer):
            self.done["slow"] += 1
            for byte in itertools.cycle(REQUEST + b"A: bcdefghijklmnopqrstuvwxyz\r\n"):
                writer.write(bytes([byte]))
                await writer.drain()
                self.done["slow_bytes"] += 1
                await asyncio.sleep(1)

    async def make_no_sense(self) -> None:
        """Send what is no request, or asks for what there is not."""
        async with self.connected(raw=random.random() < 0.2) as (reader, writer):
            writer.write(random.choice(NONSENSE))
            self.done["malformed"] += 1
            async with asyncio.timeout(0.5):
                while await reader.read(4096):
                    pass

    async def pipeline(self) -> None:
        """Many requests at once."""
        async with self.connected() as (reader, writer):
            writer.write((REQUEST + self.authorization + b"\r\n") * 50)
            self.done["pipelined"] += 50
            async with asyncio.timeout(5):
                while await reader.read(65536):
                    pass

    async def scrape(self) -> None:
        """Scrape again and again on one connection, as Prometheus does."""
        async with self.connected() as (reader, writer):
            while True:
                writer.write(REQUEST + self.authorization + b"\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.done["scrapes" if head.startswith(b"HTTP/1.1 200") else "scrapes_refused"] += 1
                await asyncio.sleep(1)

    async def guess(self) -> None:
        """Send a user and a password by chance."""
        guess = base64.b64encode(
            random.choice((b"alice", b"%d" % random.getrandbits(30)))
            + b":%d" % random.getrandbits(30)
        )
        async with self.connected() as (reader, writer):
            writer.write(REQUEST + b"Authorization: Basic " + guess + b"\r\n\r\n")
            self.done["guesses"] += 1
            if await reader.readuntil(b"\r\n\r\n"):
                self.done["guesses_answered"] += 1

    async def run(self, seconds: float) -> None:
        """Begin, and report each second."""
        kinds = [
            *((SILENT, self.say_nothing, 0.5), (SLOW, self.send_slowly, 0.5)),
            *((MALFORMED, self.make_no_sense, 0.2), (PIPELINING, self.pipeline, 0.5)),
            (SCRAPERS, self.scrape, 0.5),
            *([(GUESSERS, self.guess, 0.1)] if self.authorization else []),
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.again(what, pause))
                for number, what, pause in kinds
                for _ in range(number)
            ]
            tasks.append(group.create_task(self.report()))
            group.create_task(self.end(tasks, seconds))

    async def report(self) -> None:
        """Say each second what has been done."""
        while True:
            await asyncio.sleep(1)
            print(json.dumps(self.done), flush=True)

    async def end(self, tasks: list[asyncio.Task[None]], seconds: float) -> None:
        """Stop all when the time is over, or standard input ends."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(0, ended.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ended.wait()
        for task in tasks:
            task.cancel()


def main() -> None:
    """Read the arguments, and begin."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca")
    parser.add_argument("--user", default="")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    user = base64.b64encode(options.user.encode())
    siege = Siege(
        options.port,
        ssl.create_default_context(cafile=options.ca) if options.ca else None,
        b"Authorization: Basic " + user + b"\r\n" if options.user else b"",
    )
    asyncio.run(siege.run(options.seconds))
    sys.exit(0)


if __name__ == "__main__":
    main()
