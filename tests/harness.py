"""Runs target programs in step with a test.

A :class:`Target` is a program of ``tests/targets`` on one interpreter. It tells, step by step, which
threads it has (see ``tests/targets/lab.py``), and holds still until it is told to go on.

Each target has an environment variable of its own, so that everything it ever started can be found and
killed at the end, daemons and orphans too.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.testbed import CHECKOUT, Interpreter

T = TypeVar("T")

TARGETS = CHECKOUT / "tests" / "targets"
DEADLINE = float(os.environ.get("THREADWATCH_TEST_DEADLINE", "60"))
"""Seconds that anything may take before it counts as hung: more on a machine that is emulated."""
MARK = "THREADWATCH_TEST_TARGET"
STRICT = ("-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning")
"""Every warning is an error, except that a process with threads is forked, which is the targets' job."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A thread as its own process knows it."""

    tid: int
    name: str | None
    source: str


@dataclass(frozen=True, slots=True)
class ExpectedProcess:
    """A process of a target, as it knows itself, with the TIDs that the test sees."""

    pid: int
    threads: tuple[Expected, ...]
    others: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a target said before it held still."""

    name: str
    processes: tuple[ExpectedProcess, ...]


class TargetError(AssertionError):
    """A target did not do what it is for: it failed, hung or said nothing."""


def until(
    condition: Callable[[], T], what: str, deadline: float = DEADLINE, *, every: float = 0.02
) -> T:
    """Return the first true value of ``condition``, which is asked ``every`` so often; times are in seconds.

    :raises AssertionError: it has had none by the deadline; the message says ``what`` never came true.
    """
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {deadline:.0f} s: {what}"
        time.sleep(every)
    return value


def is_listening(path: Path) -> bool:
    """Return whether a server accepts connections at a Unix socket, which exists before it does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def await_rest(pid: int) -> None:
    """Wait until all threads of a process sleep, and none of them has run between two looks.

    So it has become the program that was started, and each thread is where it stays.
    """

    def look() -> list[tuple[bytes, bytes]]:
        return [
            (
                (task / "stat").read_bytes().rpartition(b") ")[2][:1],
                (task / "schedstat").read_bytes(),
            )
            for task in Path(f"/proc/{pid}/task").iterdir()
        ]

    def rests() -> bool:
        first = look()
        return first == look() and all(state == b"S" for state, _ in first)

    until(rests, f"process {pid} rests")


def without_cpu_s(tids: Iterable[int]) -> float:
    """Return the seconds for which these threads have been ready to run, but had no CPU.

    They waited for one (schedstat), or the CPU that they had was itself without one: what a virtual machine
    is told of that (proc_stat(5), steal) is of all its CPUs.
    """
    waits = (Path(f"/proc/{tid}/schedstat").read_text().split()[1] for tid in tids)
    return sum(map(int, waits)) / 1e9 + stolen_s()


def stolen_s() -> float:
    """Return the seconds for which the machine's virtual CPUs did not run, although they had work."""
    stolen = int(Path("/proc/stat").read_text().split(maxsplit=9)[8])
    return stolen / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 that no other program is given meanwhile.

    A server that asks for this very port can listen on it, and a later one again, if it sets SO_REUSEADDR;
    while none listens, connections are refused. What keeps the port is a socket that never listens
    (Linux: inet_csk_bind_conflict() in net/ipv4/inet_connection_sock.c).
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]


def monotonic_at(unix: float) -> float:
    """Return what CLOCK_MONOTONIC said at a Unix time.

    Between two readings of clocks another program may have the CPU: the quickest of some pairs counts.
    """
    pairs = []
    for _ in range(5):
        before, now = time.monotonic(), time.time()
        pairs.append((time.monotonic() - before, now - before))
    return unix - min(pairs)[1]


def asking_and_answering() -> list[int]:
    """Return the TIDs of this thread, which asks, and of a web server's in this process, which answers."""
    return [threading.get_native_id()] + [
        thread.native_id
        for thread in threading.enumerate()
        if thread.name == "web" and thread.native_id is not None
    ]


def command(interpreter: Interpreter, *prefix: str) -> tuple[str, ...]:
    """Return the interpreter's command, with ``prefix`` before it on the same side of a chroot."""
    return (*interpreter.command[:-1], *prefix, interpreter.command[-1])


def threadwatch(*arguments: str) -> list[str]:
    """Return a command of threadwatch itself, run by the interpreter that runs the tests."""
    return [sys.executable, "-m", "threadwatch", *arguments]


def run(
    *arguments: str, prefix: Sequence[str] = (), check: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command of threadwatch to its end; its standard input is no terminal.

    ``prefix``: a command that runs it with other rights. ``check``: whether it has to succeed.
    """
    return subprocess.run(
        [*prefix, *threadwatch(*arguments)],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=check,
    )


def run_in_pid_namespace(module: str) -> None:
    """Run a module of the tests as a program in a PID namespace of its own, where PIDs can be chosen."""
    done = subprocess.run(
        [
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(sys.executable, "-m", module),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=5 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Target:
    """A target program on one interpreter, in step with the test.

    ``mode``: ``run`` (started by ``threadwatch run``, nothing of threadwatch on its path), ``publish`` (it
    calls ``publish()``, with the checkout on its path), ``plain`` (it does not publish). ``prefix`` is put
    before the interpreter, ``options`` after it. ``stderr_lines``: how much it may have said at its end.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        program: str,
        *arguments: str,
        mode: str = "publish",
        prefix: Sequence[str] = (),
        options: Sequence[str] = STRICT,
        environment: Mapping[str, str] | None = None,
        stderr_lines: int = 0,
    ) -> None:
        self.interpreter = interpreter
        self.mode = mode
        self.stderr_lines = stderr_lines
        self.steps: list[str] = []
        self.mark = uuid.uuid4().hex
        self._namespace = "--pid" in prefix
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        run = threadwatch("run", "--") if mode == "run" else []
        program_path = str(TARGETS / program)
        self.process = subprocess.Popen(
            [*run, *prefix, *interpreter.command, *options, program_path, *arguments],
            cwd=CHECKOUT,
            env=environ(mode, {MARK: self.mark, **(environment or {})}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            bufsize=0,
        )
        self._buffer = b""
        self._selector = selectors.DefaultSelector()
        assert self.process.stdout is not None
        self._selector.register(self.process.stdout, selectors.EVENT_READ)

    def __str__(self) -> str:
        return f"{self.interpreter} ({self.mode})"

    def next_step(self) -> Step | None:
        """Return the next step that the program takes; None when it has ended without an error."""
        line = self.next_line()
        if line is None:
            self._ended()
            return None
        said: dict[str, Any] = json.loads(line)
        self.steps.append(said["step"])
        tids = self._outside() if self._namespace else {}
        return Step(said["step"], tuple(_located(process, tids) for process in said["processes"]))

    def next_line(self) -> bytes | None:
        """Return the next line that the program writes; None when it has closed its output."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + DEADLINE
        while b"\n" not in self._buffer:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise TargetError(self.complaint(f"said nothing for {DEADLINE:.0f} s"))
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def go(self, *, last: bool = False) -> None:
        """Let the program go on to its next step; ``last``: by exec it is one that ends with its input."""
        assert self.process.stdin is not None
        if last:
            self.process.stdin.close()
            return
        with contextlib.suppress(BrokenPipeError):  # its end says why
            self.process.stdin.write(b"\n")

    def stderr(self) -> str:
        """Return what the program has written to its stderr so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "replace")

    def complaint(self, text: str) -> str:
        """Return ``text`` with what is needed to make sense of it."""
        last = self.steps[-1] if self.steps else "the start"
        return f"{self}: {text} after {last!r}; its stderr:\n{self.stderr()}"

    def close(self) -> None:
        """End whatever is left of it."""
        self._selector.close()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        for pid in marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE)
        self._stderr.close()

    def _ended(self) -> None:
        if self._buffer:
            raise TargetError(
                self.complaint(f"ended in the middle of a line: {self._buffer[:80]!r}")
            )
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise TargetError(self.complaint("closed its output but did not end")) from None
        if status:
            raise TargetError(self.complaint(f"ended with status {status}"))

    def _outside(self) -> dict[int, int]:
        """TIDs in the target's PID namespace (pid_namespaces(7)) → in the test's."""
        own = os.readlink("/proc/self/ns/pid")
        found = {}
        for pid in marked(self.mark):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/ns/pid") == own:
                    continue
                for task in Path(f"/proc/{pid}/task").iterdir():
                    status = (task / "status").read_text("utf-8", "replace")
                    (line,) = (x for x in status.splitlines() if x.startswith("NSpid:"))
                    found[int(line.split()[-1])] = int(task.name)
        return found


def _located(process: dict[str, Any], tids: Mapping[int, int]) -> ExpectedProcess:
    """Return the process with the PID and TIDs that the test's own PID namespace has for them."""
    pid = tids.get(process["pid"], process["pid"])
    if process["comm"] is not None:
        await_comm(pid, process["comm"])
    return ExpectedProcess(
        pid,
        tuple(
            Expected(tids.get(t["tid"], t["tid"]), t["name"], t["source"])
            for t in process["threads"]
        ),
        process["others"],
    )


def environ(mode: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a target: this process's, less what would decide for it."""
    dropped = ("PYTHON", "THREADWATCH", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    path = {"PYTHONPATH": str(CHECKOUT)} if mode == "publish" else {}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "LAB_MODE": mode, **path, **extra}


def marked(mark: str) -> Iterator[int]:
    """Yield the processes that a target started, by their environment."""
    wanted = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    yield int(entry)


def await_comm(pid: int, comm: str) -> None:
    """Wait until a process has become another program."""
    path = Path(f"/proc/{pid}/comm")
    until(lambda: path.read_text() == comm + "\n", f"process {pid} is {comm!r}")
