"""A daemon under siege: what hundreds of clients that hold on cannot do (tests/siege.py has them).

They come from the same address as the scraper that is watched, so nothing but what they do tells them apart.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import bcrypt
import pytest
import trustme

from tests import certificates, siege
from tests.harness import DEADLINE, until, without_cpu_s
from tests.serving import Serving, serving, threads_of
from tests.testbed import CHECKOUT

TLS = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
SCRAPES = 15
ALICE = "Basic " + base64.b64encode(b"alice:horse").decode()


@contextlib.contextmanager
def besieged(daemon: Serving, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Have all those clients hold on meanwhile; from the first report on they all have begun."""
    bounded = f"--seconds={10 * DEADLINE}"  # it ends with its standard input
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.siege", f"--port={_port(daemon)}", bounded, *arguments],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        until(lambda: _is_complete(json.loads(process.stdout.readline())), "all hold on", every=0)  # type: ignore[union-attr]  # it is a pipe
        yield process
    finally:
        process.kill()
        process.communicate()


def _is_complete(done: Mapping[str, int]) -> bool:
    """Return whether each kind of client has done enough to be a part of the siege."""
    holding = done.get("silent", 0) >= siege.SILENT and done.get("slow", 0) >= siege.SLOW
    return (
        holding and min(done.get(kind, 0) for kind in ("malformed", "pipelined", "scrapes")) >= 50
    )


def _port(daemon: Serving) -> int:
    return int(daemon.url.rpartition(":")[2])


def scrape(daemon: Serving, context: ssl.SSLContext | None) -> tuple[float, str]:
    """Return a valid scrape on a connection of its own: how long it takes, and what it gets."""
    began = time.monotonic()
    client = (
        http.client.HTTPSConnection("localhost", _port(daemon), timeout=DEADLINE, context=context)
        if context
        else http.client.HTTPConnection("localhost", _port(daemon), timeout=DEADLINE)
    )
    with contextlib.closing(client):
        client.request("GET", "/metrics", headers={"Authorization": ALICE} if context else {})
        response = client.getresponse()
        body = response.read().decode()
    assert response.status == 200
    return time.monotonic() - began, body


def value(body: str, name: str) -> float:
    """Return a metric without labels."""
    found = re.search(rf"^{name} (\S+)$", body, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


class Starved:
    """How long threads have been without a CPU, since any moment."""

    def __init__(self, tids: Sequence[int]) -> None:
        self._tids = tids
        self._seen: list[tuple[float, float]] = []
        self.look()

    def look(self) -> None:
        """Note what it has been up to now."""
        self._seen.append((time.time(), without_cpu_s(self._tids)))

    def since(self, moment: float) -> float:
        """Return the seconds since the last look before a moment, or since the first of all."""
        before = [seconds for at, seconds in self._seen if at <= moment] or [self._seen[0][1]]
        return without_cpu_s(self._tids) - before[-1]


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https with passwords"])
def test_a_siege_delays_neither_scrapes_nor_polls(tmp_path: Path, secure: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    """While 780 clients hold on, a scrape is answered within a second, and no poll is late.

    500 say nothing, 200 send a byte a second, 10 make no sense, 10 send 50 requests at once, 50 scrape;
    and with passwords 10 guess them, at a cost of bcrypt that takes a CPU for all of the time. The
    time for which the kernel gives no CPU to the threads that ask, answer and poll is not counted.
    """
    arguments, options, context = [], list[str](), None
    if secure:
        ca = trustme.CA()
        ca.cert_pem.write_to_path(tmp_path / "ca.pem")
        certificates.write_pair(ca, tmp_path, "localhost")
        hashed = bcrypt.hashpw(b"horse", bcrypt.gensalt(12)).decode()
        (tmp_path / "web.yml").write_text(f"{TLS}basic_auth_users:\n  alice: {hashed}\n")
        arguments = [f"--web.config.file={tmp_path / 'web.yml'}"]
        options = [f"--ca={tmp_path / 'ca.pem'}", "--user=alice:horse"]
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with serving(tmp_path, *arguments) as daemon:
        skipped = "threadwatch_polls_skipped_total"
        until(lambda: skipped in scrape(daemon, context)[1], "the first poll")
        before = value(scrape(daemon, context)[1], skipped)
        tids = threads_of(daemon.process.pid)
        both = tids["web"], threading.get_native_id()
        # a poll waits for the GIL, too, and that is as late as the thread that holds it
        polling = Starved((tids["MainThread"], tids["reader"], tids["web"]))
        with besieged(daemon, *options) as process:
            times, ages, body = list[float](), list[float](), ""
            for _ in range(SCRAPES):
                polling.look()
                missing = without_cpu_s(both)
                took, body = scrape(daemon, context)
                missing = without_cpu_s(both) - missing
                times.append(took - missing)
                polled = value(body, "threadwatch_last_poll_timestamp_seconds")
                ages.append(time.time() - polled - missing - polling.since(polled))
                time.sleep(0.2)  # the pause of a scraper, not for anything to happen
            assert process.poll() is None
            done = json.loads(process.communicate(timeout=DEADLINE)[0].splitlines()[-1])
        starved = polling.since(0)
        after = value(body, skipped)
    assert _is_complete(done), done
    assert sorted(times)[-2] < 1, times  # the machine may be busy with something else once
    assert after - before <= starved // 1  # a poll is skipped where one is late by a second
    assert max(ages) < 2, ages
    assert "level=error" not in daemon.text(), daemon.text()
