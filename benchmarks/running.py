"""Programs that are measured while they run: loads, daemons, and the clocks of their processes."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

CHECKOUT = Path(__file__).resolve().parent.parent
DEADLINE = 120.0
"""Seconds that a program may take to be ready, or to end."""


class BenchmarkError(Exception):
    """Something that is to be measured does not work here; says what."""


def process_clock_ns(pid: int) -> int:
    """CPU time of all threads of a process in its life, ended ones included (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def thread_clock_ns(pid: int, tid: int) -> int:
    """CPU time of a thread, exact while it sleeps (schedstat)."""
    return int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_bytes().split()[0])


def resident_bytes(pid: int) -> int:
    """Physical memory of a process."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"process {pid} has no memory: it has ended")
    return int(found[1]) * 1024


def descriptors(pid: int) -> int:
    """Return how many file descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def switches(pid: int) -> dict[int, tuple[int, int]]:
    """Voluntary and involuntary context switches of each thread of a process."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        pairs = re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())
        found[int(task.name)] = (int(pairs[0]), int(pairs[1]))
    return found


def cpu_of(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """CPU seconds of a command from start to end, those of children that it waited for included."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            raise BenchmarkError(f"{command[0]} ended with {process.returncode}: {said}")
    return usage.ru_utime + usage.ru_stime


class Load:
    """A running :mod:`benchmarks.load`; ends with its context."""

    def __init__(self, arguments: Sequence[str], *, published: bool) -> None:
        """Returns when all threads run."""
        run = ("-m", "threadwatch", "run", "--", sys.executable) if published else ()
        self._process = subprocess.Popen(
            [sys.executable, *run, "-m", "benchmarks.load", *arguments],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            self.__exit__()
            most = Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii").strip()
            raise BenchmarkError(f"the load did not start: so many threads? (pid_max is {most})")
        self.pids: list[int] = json.loads(said)["pids"]

    def threads(self) -> int:
        """Return how many threads there are now."""
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in self.pids)

    def cpu_seconds(self) -> float:
        """CPU time that all its processes have used so far."""
        return sum(map(process_clock_ns, self.pids)) / 1e9

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=DEADLINE)


class Server:
    """A program that serves metrics; ends with its context."""

    readiness = "/"
    """A page that is there once it is ready."""

    def __init__(self, command: Sequence[str], listening: str = "", port: int = 0) -> None:
        """Returns when it answers.

        ``port`` is where it listens; 0: it says so itself, and the pattern ``listening`` captures it.
        """
        self._connection: http.client.HTTPConnection | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the context
        self._process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.pid = self._process.pid
        self.port = port
        try:
            if not port:
                self.port = int(until(lambda: self._find(listening), f"{command[0]} listens"))
            until(self._answers, f"{command[0]} answers")
        except BaseException:  # whatever ends this: no daemon stays
            self.__exit__()
            raise

    def _find(self, pattern: str) -> str:
        self._check_running()
        found = re.search(pattern, self.said())
        return found[1] if found else ""

    def _answers(self) -> bool:
        self._check_running()
        try:
            return bool(self.get(self.readiness))
        except (BenchmarkError, OSError):
            return False

    def _check_running(self) -> None:
        if self._process.poll() is not None:
            raise BenchmarkError(f"ended with {self._process.returncode}: {self.said()}")

    def cpu_of_get(self, path: str, **headers: str) -> tuple[float, bytes]:
        """Like :meth:`get`, with the CPU seconds that the program spent on it."""
        before = self.answering_clock_ns()
        body = self.get(path, **headers)
        time.sleep(0.02)  # for what it does after the last byte
        return (self.answering_clock_ns() - before) / 1e9, body

    def answering_clock_ns(self) -> int:
        """CPU time of what answers requests."""
        return process_clock_ns(self.pid)

    def said(self) -> str:
        """Return its log so far."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def get(self, path: str, **headers: str) -> bytes:
        """Return the body of a page, unpacked, by a kept connection; BenchmarkError unless it is 200."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            try:
                self._connection.request("GET", path, headers=named)
                answer = self._connection.getresponse()
            except http.client.RemoteDisconnected:  # it was kept for as long as the server would
                self._connection.request("GET", path, headers=named)
                answer = self._connection.getresponse()
            body = answer.read()
        except BaseException:  # whatever ends this: the connection is in the middle of an answer
            self._connection.close()
            raise
        if answer.status != http.client.OK:
            raise BenchmarkError(f"GET {path}: {answer.status}")
        return gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(DEADLINE)
        finally:
            self._process.kill()
            self._log.close()
            if self._connection is not None:
                self._connection.close()


_CONFIG = """\
unmatched: ignore
names: {{from_memory: {from_memory}}}
threads: {{per: {per}, cap: 100000}}
waits: {{rate: {rate}}}
tasks: {{rate: {tasks}}}
groups:
- {{name: load, match: {{cmdline: {load}}}}}
"""
_ITSELF = "- {name: threadwatch, match: {cmdline: threadwatch serve}}\n"


@contextlib.contextmanager
def configuration(
    per: str = "group",
    *,
    rate: int = 0,
    load: str = "benchmarks.load",
    itself: bool = True,
    from_memory: bool = False,
    tasks: int = 10,
) -> Iterator[str]:
    """Yield the path of a configuration that watches loads and daemons, and nothing else that runs here.

    ``rate``: how often in a second it is sampled what threads wait for. ``load``: what the load's command
    line has in it. ``itself``: whether daemons are watched at all. ``from_memory``: whether names are read
    from the memory of what does not publish. ``tasks``: how often in a second loops are looked at.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        memory = str(from_memory).lower()
        config = _CONFIG.format(per=per, rate=rate, load=load, from_memory=memory, tasks=tasks)
        file.write(config + (_ITSELF if itself else ""))
        file.flush()
        yield file.name


class Daemon(Server):
    """``threadwatch serve``, polling every second."""

    readiness = "/-/ready"

    def __init__(self, config: str | None) -> None:
        """``config``: the path of its configuration; None: the default one. Returns after the first poll."""
        command = [sys.executable, "-m", "threadwatch", "serve", "--web.listen-address=127.0.0.1:0"]
        if config is not None:
            command.append(f"--config.file={config}")
        super().__init__(command, r"address=\S*127\.0\.0\.1:(\d+)")

    def answering_clock_ns(self) -> int:
        """CPU time of all threads but the main one, which polls."""
        return sum(thread_clock_ns(self.pid, tid) for tid in switches(self.pid) if tid != self.pid)

    def metrics(self) -> dict[str, float]:
        """Return what it says now; the names with their labels, as they stand in the exposition."""
        lines = self.get("/metrics").decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def between_polls(self) -> None:
        """Sleep until the middle between two polls, so that what follows meets none."""
        last = self.metrics()["threadwatch_last_poll_timestamp_seconds"]
        sleep_until(last + 1.5 if time.time() - last > 0.4 else last + 0.5)


@contextlib.contextmanager
def watching(
    per: str = "group",
    *,
    rate: int = 0,
    load: str = "benchmarks.load",
    itself: bool = True,
    from_memory: bool = False,
    tasks: int = 10,
) -> Iterator[Daemon]:
    """Yield a daemon that is configured by :func:`configuration`."""
    with (
        configuration(
            per, rate=rate, load=load, itself=itself, from_memory=from_memory, tasks=tasks
        ) as path,
        Daemon(path) as daemon,
    ):
        yield daemon


def sleep_until(moment: float) -> None:
    """Sleep until that time of day, if it is still to come."""
    time.sleep(max(moment - time.time(), 0))


T = TypeVar("T")


def until(condition: Callable[[], T], what: str) -> T:
    """Return the first true value of ``condition``; BenchmarkError if none comes within :data:`DEADLINE`."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > end:
            raise BenchmarkError(f"{what}: not within {DEADLINE:.0f} s")
        time.sleep(0.02)
    return value
