"""A real daemon and a small real application under ``threadwatch run``, for tests of the whole."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.harness import DEADLINE, run, threadwatch, until
from tests.testbed import CHECKOUT


def request(url: str) -> tuple[int, str]:
    """Return status and body of one request to our own daemon."""
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as response:  # noqa: S310 - our own daemon's address
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Serving:
    """``threadwatch serve``, on a free port unless told otherwise, with its log in a file."""

    def __init__(
        self, directory: Path, *arguments: str, prefix: Sequence[str] = (), port: int = 0
    ) -> None:
        """``prefix``: a command that runs it with other rights."""
        listen = f"--web.listen-address=127.0.0.1:{port}"
        self.log = directory / "serve.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, *threadwatch("serve", listen, *arguments)],
                cwd=CHECKOUT,
                stderr=log,
            )
        until(lambda: "listening" in self.text() or self.process.poll() is not None, "listening")
        found = re.search(r"address=(127\.0\.0\.1:\d+)", self.text())
        assert found, self.text()
        self.url = f"http://{found[1]}"

    def text(self) -> str:
        """Return what it has logged so far."""
        return self.log.read_text()

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one request."""
        return request(self.url + path)

    def metric(self, name: str) -> str | None:
        """Return the value of a metric that has no labels, or with them as they stand in ``name``."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return found[1] if found else None


def threads_of(pid: int) -> dict[str, int]:
    """Return the TIDs of a daemon's threads by the names that it publishes."""
    done = run("ps", "--json", "--interval=0", str(pid), check=True)
    (process,) = json.loads(done.stdout)
    return {thread["name"]: thread["tid"] for thread in process["threads"]}


@contextlib.contextmanager
def serving(
    directory: Path, *arguments: str, prefix: Sequence[str] = (), port: int = 0
) -> Iterator[Serving]:
    """Run a daemon meanwhile."""
    daemon = Serving(directory, *arguments, prefix=prefix, port=port)
    try:
        yield daemon
    finally:
        daemon.process.kill()
        daemon.process.wait()


@contextlib.contextmanager
def ready(
    *command: str,
    first: str = "ready",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Yield a process once it has printed its first line, which has to be ``first``; kill it at the end."""
    process = subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{first}\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def application(*, name: str = "shop.py", code: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run a small application under ``threadwatch run``, ready once this is entered. Its stdin ends it."""
    body = (
        "import sys, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), name='metrics-flush', daemon=True).start()\n"
        f"{code}\nprint('ready', flush=True)\nsys.stdin.read()\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / name
        script.write_text(body)
        command = threadwatch("run", "--", sys.executable, str(script))
        with ready(*command, cwd=CHECKOUT) as process:
            yield process
