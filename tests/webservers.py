"""Real web servers that run Python in ways of their own: uWSGI, and Apache with mod_wsgi (Debian's packages).

Each serves ``tests/targets/wsgi_app.py`` on a Unix socket or on a port of its own, and publishes by
``THREADWATCH=1`` with threadwatch's start-up file on the path.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.harness import DEADLINE, TARGETS, reserved_port, until
from tests.testbed import CHECKOUT

UWSGI = ("uwsgi_python3",)
"""Debian's, of the packages uwsgi-core and uwsgi-plugin-python3."""


def environ(**extra: str) -> dict[str, str]:
    """Return an environment in which Python publishes."""
    path = f"{TARGETS}:{CHECKOUT / 'threadwatch/inject'}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "THREADWATCH"))}
    return {**kept, "THREADWATCH": "1", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **extra}


class Server:
    """A web server that runs. ``address``: where it listens."""

    def __init__(self, process: subprocess.Popen[bytes], address: str | tuple[str, int]) -> None:
        self.process = process
        self.address = address

    def pids(self) -> list[int]:
        """Return the server's processes: the one that was started, and its children."""
        found, rest = [], [self.process.pid]
        while rest:
            pid = rest.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    rest += map(int, (task / "children").read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """CPU time that they have used, by the kernel's clocks."""
        return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in self.pids()) / 1e9

    def request(self) -> int:
        """Return the PID of the process that has served a request."""
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        with socket.socket(family) as connection:
            connection.settimeout(DEADLINE)
            connection.connect(self.address)
            connection.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = b""
            while data := connection.recv(4096):
                answer += data
        assert b" 200 " in answer, answer
        return int(answer.rpartition(b"\r\n\r\n")[2])

    def listens(self) -> bool:
        """Return whether it can be connected to."""
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        with socket.socket(family) as connection:
            return connection.connect_ex(self.address) == 0

    def answers(self) -> bool:
        """Return whether it serves requests yet."""
        try:
            self.request()
        except OSError:
            return False
        return True


@contextlib.contextmanager
def running(
    command: Sequence[str], address: str | tuple[str, int], log: Path, *, asked: bool, **extra: str
) -> Iterator[Server]:
    """Run a server of this command; ``extra``: for its environment.

    Once this is entered, it listens; ``asked``: and has served a request.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=environ(**extra), stdout=out, stderr=out, start_new_session=True
        )
    server = Server(process, address)
    try:
        ready = server.answers if asked else server.listens
        until(lambda: ready() or process.poll() is not None, "the server answers")
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        for pid in server.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def uwsgi(
    directory: Path, *options: str, name: str = "uwsgi", command: Sequence[str] = UWSGI
) -> contextlib.AbstractContextManager[Server]:
    """uWSGI with these options; modules in the directory are found. ``name``: of its socket and log."""
    address = str(directory / f"{name}.sock")
    words = [*command, "--http-socket", address, "--pythonpath", str(directory), *options]
    return running(words, address, directory / f"{name}.log", asked=True)


_APACHE = """
ServerRoot {place}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {place}/httpd.pid
ErrorLog {place}/httpd.log
User nobody
Group nogroup
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
StartServers 1
WSGISocketPrefix {place}/wsgi
WSGIDaemonProcess shop processes=2 threads=3 display-name=%{{GROUP}} python-path={path}
WSGIProcessGroup shop
WSGIScriptAlias / {targets}/wsgi_app.py
<Directory {targets}>
Require all granted
</Directory>
"""


@contextlib.contextmanager
def apache(directory: Path) -> Iterator[Server]:
    """Run Apache with mod_wsgi, which makes the application's interpreter with the first request."""
    path = environ()["PYTHONPATH"]
    configuration = directory / "httpd.conf"
    directory.chmod(0o755)
    command = ["apache2", "-f", str(configuration), "-DFOREGROUND"]
    out = directory / "httpd.out"
    with reserved_port() as port:
        text = _APACHE.format(
            place=directory,
            port=port,
            modules="/usr/lib/apache2/modules",
            path=path,
            targets=TARGETS,
        )
        configuration.write_text(text)
        with running(command, ("127.0.0.1", port), out, asked=False, BACKGROUND="1") as server:
            yield server
