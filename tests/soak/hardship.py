"""What makes life hard for a daemon: targets that come and go, reloads, and clients of every kind."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import testbed
from tests.harness import TARGETS, environ

ROLES = ("threads", "forks", "execs", "mixed")
EXPIRE_S = 900
_ALWAYS: dict[str, Any] = {
    "expire_after": f"{EXPIRE_S}s",
    "groups": [{"name": "witness", "match": {"cmdline": r"soak\.py \S+ witness"}}],
}
GOOD: tuple[dict[str, Any], ...] = (
    _ALWAYS,
    _ALWAYS | {"collect": ["context_switches", "io"]},
    _ALWAYS | {"poll_interval": "500ms", "waits": {"rate": 20}},
    _ALWAYS | {"thread_info": True},
)
BAD = ("groups: 7\n", "poll_interval: soon\n", "\x00", "{", "collect: [everything]\n")


class Hardship:
    """Threads that make trouble until told to stop. ``wrong`` is what should not have happened."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.wrong: list[str] = []
        self.counts: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def begin(self, what: Callable[[], Iterator[float]]) -> None:
        """Do ``what`` over and over: it yields how many seconds to wait before it goes on."""

        def run() -> None:
            while not self.over.is_set():
                try:
                    for pause in what():
                        if self.over.wait(pause):
                            return
                except Exception as error:  # noqa: BLE001  # whatever it is: it is reported as what is wrong
                    self.complain(f"{what.__name__}: {error!r}")
                    self.over.wait(1)

        self._threads.append(threading.Thread(target=run, name=what.__name__, daemon=True))
        self._threads[-1].start()

    def end(self) -> None:
        """Stop, and wait until all have."""
        self.over.set()
        for thread in self._threads:
            thread.join(30)

    def complain(self, text: str) -> None:
        """Note what is wrong; the same thing twenty times at most."""
        with self._lock:
            if len(self.wrong) < 200:
                self.wrong.append(text)

    def count(self, what: str) -> None:
        """Count one more of them."""
        with self._lock:
            self.counts[what] = self.counts.get(what, 0) + 1


def target(mark: str, role: str, interpreter: testbed.Interpreter) -> subprocess.Popen[bytes]:
    """Start a target of the soak."""
    return subprocess.Popen(
        [*interpreter.command, str(TARGETS / "soak.py"), mark, role],
        env=environ("publish", {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if role == "witness" else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def churning(hardship: Hardship, mark: str, role: str) -> Callable[[], Iterator[float]]:
    """Processes of a role, one after another, on every interpreter, with all kinds of ends."""

    def churn() -> Iterator[float]:
        process = target(mark, role, random.choice(testbed.interpreters()))
        hardship.count(f"targets {role}")
        try:
            yield random.uniform(3, 12)
            if random.random() < 0.3:
                process.send_signal(signal.SIGSTOP)
                hardship.count("targets stopped")
                yield random.uniform(0.5, 3)
                process.send_signal(signal.SIGCONT)
                yield 1
            end = random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None])
            if end is not None:
                process.send_signal(end)
            deadline = time.monotonic() + 15
            while process.poll() is None and time.monotonic() < deadline:
                yield 0.2
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()

    return churn


def reloading(
    hardship: Hardship, daemon: subprocess.Popen[bytes], config: Path, every: float
) -> Callable[[], Iterator[float]]:
    """Write another configuration at each interval: a good one and a bad one by turns."""

    def reload() -> Iterator[float]:
        for number in range(1_000_000):
            yield every
            good = number % 2 == 0
            text = json.dumps(random.choice(GOOD)) if good else random.choice(BAD)
            config.write_text(text)
            daemon.send_signal(signal.SIGHUP)
            hardship.count("reloads, good" if good else "reloads, bad")

    return reload


def scraping(hardship: Hardship, url: str, took: list[float]) -> Callable[[], Iterator[float]]:
    """Yield a scraper that asks again and again, in either format, compressed or not."""

    def scrape() -> Iterator[float]:
        headers = {
            "Accept": random.choice(["application/openmetrics-text", "text/plain", "*/*"]),
            "Accept-Encoding": random.choice(["gzip", "identity"]),
        }
        path = random.choice(["/metrics", "/metrics", "/api/v1/view", "/"])
        begin = time.monotonic()
        request = urllib.request.Request(url + path, headers=headers)  # noqa: S310  # our own daemon's address
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310  # as above
                body = response.read()
                if response.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
        except urllib.error.HTTPError as error:
            with error:
                if (
                    path != "/api/v1/view" or error.code != 503
                ):  # who is the first to ask has to wait
                    raise
            yield random.uniform(0.5, 3)
            return
        took.append(time.monotonic() - begin)
        hardship.count(f"requests for {path}")
        expected = b"threadwatch_polls_total" if path == "/metrics" else b"threadwatch"
        if expected not in body:
            hardship.complain(f"{path}: {len(body)} bytes without {expected.decode()}")
        yield random.uniform(0.5, 3)

    return scrape


def dawdling(hardship: Hardship, url: str) -> Callable[[], Iterator[float]]:
    """Clients that say nothing, little, nonsense, or never read what they have asked for."""
    where = urlsplit(url)

    def dawdle() -> Iterator[float]:
        with socket.create_connection((where.hostname, where.port), timeout=30) as client:
            hardship.count("slow clients")
            kind = random.randrange(4)
            with contextlib.suppress(OSError):
                if kind == 0:
                    yield random.uniform(1, 12)
                elif kind == 1:
                    for byte in b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n":
                        client.send(bytes([byte]))
                        yield 0.5
                elif kind == 2:
                    client.send(random.randbytes(200))
                    yield 1
                else:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                    client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
                    yield random.uniform(1, 12)
        yield 0.5

    return dawdle
