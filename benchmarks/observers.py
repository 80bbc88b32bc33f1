"""Programs that watch others from outside: how each is started, its answers about the GIL, and its costs.

threadwatch watches continuously; py-spy and CPython's own profiler (3.15) are attached to a single
process. Both are asked here only which thread holds the GIL.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from benchmarks.running import CHECKOUT, DEADLINE, BenchmarkError, Daemon
from tests.testbed import Interpreter

PROFILER = (3, 15)
"""The first CPython that has one, ``profiling.sampling``."""
_ATTACHES_IN = 1.5
"""Seconds after which CPython's profiler samples; it does not say when."""


class Service:
    """A running :mod:`benchmarks.service`; ends with its context."""

    def __init__(self, interpreter: Interpreter, program: str, mark: str) -> None:
        """Returns when its threads run. ``mark`` is put on its command line, for a daemon to know it by."""
        self._process = subprocess.Popen(
            [*interpreter.command, "-m", "benchmarks.service", program, mark],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # an ordinary program, whatever the priority of those that look at it (before it has threads)
        os.sched_setscheduler(self._process.pid, os.SCHED_OTHER, os.sched_param(0))
        self.pid: int = self._hear()["pid"]

    def ask(self) -> dict[str, Any]:
        """Return what it has done so far."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then it is not heard of, either
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait(DEADLINE)
            raise BenchmarkError(f"the service that was to be watched has ended with {code}")
        said: dict[str, Any] = json.loads(line)
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=DEADLINE)


def new_mark() -> str:
    """Return what the command line of no other process has in it."""
    return f"service-{uuid.uuid4().hex}"


class Attached:
    """A profiler that is attached to a process."""

    def __init__(
        self, command: list[str], output: Path, ready: str, counts: Callable[[str], Counter[str]]
    ) -> None:
        """Returns when it samples; ``ready`` is what it says then, or nothing, if it says nothing."""
        self._output = output
        self._counts = counts
        # SIGINT ends it: a shell's background job, which we may be, would pass on that it is ignored
        self._process = subprocess.Popen(
            ["env", "--default-signal=INT", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        if ready:
            said = self._process.stdout.readline()
            if ready not in said:
                self._process.kill()
                raise BenchmarkError(f"{command[0]}: {said}{self._process.communicate()[0]}")
        else:
            time.sleep(_ATTACHES_IN)

    def end(self) -> Counter[str]:
        """Detach it: how often it has seen which thread hold the GIL, by what it calls threads."""
        self._process.send_signal(signal.SIGINT)
        said, _ = self._process.communicate(timeout=DEADLINE)
        if not self._output.exists():
            raise BenchmarkError(f"a profiler has left no profile: {said}")
        return self._counts(self._output.read_text(encoding="utf-8"))


Attach = Callable[[int], contextlib.AbstractContextManager[Attached]]
"""Attaches a profiler to the process with that PID."""


def py_spy() -> str:
    """Return the path of py-spy; :class:`BenchmarkError` where it is not installed."""
    places = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
    path = shutil.which("py-spy", path=places)
    if path is None:
        raise BenchmarkError("py-spy is not installed (pip install py-spy)")
    return path


def attach_py_spy(rate: int, *, blocking: bool) -> Attach:
    """Watch with py-spy, which samples this often per second which thread holds the GIL."""
    # --idle: it sees whether threads are idle some time before it sees the GIL's holder, and leaves out
    # one that has come to hold it meanwhile
    command = [py_spy(), "record", "--gil", "--idle", "--threads", f"--rate={rate}", "--format=raw"]
    command += [] if blocking else ["--nonblocking"]

    @contextlib.contextmanager
    def attach(pid: int) -> Iterator[Attached]:
        with tempfile.TemporaryDirectory() as directory:
            output = Path(directory, "profile")
            whole = [*command, f"--output={output}", f"--pid={pid}"]
            with _ended(Attached(whole, output, "Sampling process", py_spy_counts)) as attached:
                yield attached

    return attach


def attach_profiler(interpreter: Interpreter, rate: int, *, blocking: bool) -> Attach:
    """CPython's own, of the very build that runs the process."""
    command = [*interpreter.command, "-m", "profiling.sampling", "attach", "--mode=gil"]
    command += ["--all-threads", f"--sampling-rate={rate}", "--collapsed"]
    command += ["--blocking"] if blocking else []

    @contextlib.contextmanager
    def attach(pid: int) -> Iterator[Attached]:
        with tempfile.TemporaryDirectory() as directory:
            output = Path(directory, "profile")
            whole = [*command, f"--output={output}", str(pid)]
            with _ended(Attached(whole, output, "", profiler_counts)) as attached:
                yield attached

    return attach


@contextlib.contextmanager
def _ended(attached: Attached) -> Iterator[Attached]:
    """See that it is detached, whatever happens."""
    try:
        yield attached
    finally:
        if attached._process.poll() is None:
            attached.end()


def py_spy_counts(profile: str) -> Counter[str]:
    """Samples by thread name, from ``--format=raw``: ``thread (TID): NAME;FRAME;… COUNT``."""
    return _counts(profile, re.compile(r"thread \(\w+\): ([^;]*);.* (\d+)"))


def profiler_counts(profile: str) -> Counter[str]:
    """Samples by TID, from ``--collapsed``: ``tid:TID;FRAME;… COUNT``."""
    return _counts(profile, re.compile(r"tid:(\d+);.* (\d+)"))


def _counts(profile: str, line: re.Pattern[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for found in map(line.fullmatch, profile.splitlines()):
        if found is not None:
            counts[found[1]] += int(found[2])
    return counts


@contextlib.contextmanager
def stopped(daemon: Daemon) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """Stop the daemon, but while the context that this yields is entered."""

    @contextlib.contextmanager
    def going() -> Iterator[None]:
        os.kill(daemon.pid, signal.SIGCONT)
        try:
            yield
        finally:
            os.kill(daemon.pid, signal.SIGSTOP)

    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        yield going
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def own_interpreter(interpreters: tuple[Interpreter, ...]) -> Interpreter:
    """Return the one of these that the daemon runs on, or the newest."""
    same = [one for one in interpreters if one.version == sys.version_info[:2]]
    return (same or list(interpreters))[-1]
