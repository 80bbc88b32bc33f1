"""Runs target programs in step with ``threadwatch ps`` and compares what both say.

Theory of operation. A :class:`Target` is a program of ``tests/targets`` on one interpreter. It tells,
step by step, which threads it has (see ``tests/targets/lab.py``), and holds still until it is told to
go on. :func:`drive` runs the same program on many interpreters side by side: it takes one step of each,
asks ``ps --json`` about all their processes at once, compares, and lets them go on. A thread's name
must be right at the first look. All that is awaited is that threads without a name appear, and that
those which have ended disappear.

``ps`` starts afresh at each step. A daemon does not: it follows what has changed. So the same is asked of
one :class:`Poller` that lives as long as the targets do. That may take some polls to see an exec, or a
table where there was none.

Each target has an environment variable of its own, so that everything it ever started can be found and
killed at the end, daemons and orphans too.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.testbed import CHECKOUT, Interpreter
from threadwatch.config import DEFAULT_CONFIG
from threadwatch.poller import Poller
from threadwatch.procfs import ProcFS

TARGETS = CHECKOUT / "tests" / "targets"
DEADLINE = 60.0
"""Seconds that anything may take before it counts as hung."""
SETTLE = 10.0
"""Seconds in which threads that have ended must be gone from what is shown."""
MARK = "THREADWATCH_TEST_TARGET"
NAME_BYTES = 192
"""The documented length of a published name, in bytes of UTF-8."""
WAITS = ("gil", "lock", "poll", "socket", "file", "pipe", "sleep", "child", "disk")
STATES = frozenset(("running", "runnable", *WAITS, "sleeping", "stopped", "zombie", "other"))
STRICT = ("-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning")
"""Every warning is an error, except that a process with threads is forked, which is the targets' job."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A thread as ``ps --json`` shows it."""

    tid: int
    name: str
    source: str
    comm: str
    state: str


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


def cut(name: str) -> str:
    """The name as it is published: at most NAME_BYTES of UTF-8, whole characters, surrogates escaped."""
    return name.encode("utf-8", "backslashreplace")[:NAME_BYTES].decode("utf-8", "ignore")


def command(interpreter: Interpreter, *prefix: str) -> tuple[str, ...]:
    """The interpreter's command, with ``prefix`` before it on the same side of a chroot."""
    return (*interpreter.command[:-1], *prefix, interpreter.command[-1])


def threadwatch(*arguments: str) -> list[str]:
    """A command of threadwatch itself, run by the interpreter that runs the tests."""
    return [sys.executable, "-m", "threadwatch", *arguments]


def ps(pids: Iterable[int], prefix: Sequence[str] = ()) -> dict[int, dict[int, Shown]]:
    """What ``threadwatch ps --json PID…`` shows: by PID, by TID."""
    done = subprocess.run(
        [*(prefix or threadwatch()), "ps", "--json", "--interval", "0", *map(str, pids)],
        cwd=CHECKOUT,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    if done.returncode:
        raise TargetError(f"ps ended with {done.returncode}:\n{done.stderr.decode()}")
    found: dict[int, dict[int, Shown]] = {}
    for process in json.loads(done.stdout):
        assert isinstance(process["group"], str)
        assert process["pid"] not in found, f"ps shows process {process['pid']} twice"
        threads = [Shown(*(t[key] for key in Shown.__slots__)) for t in process["threads"]]
        found[process["pid"]] = {thread.tid: thread for thread in threads}
        assert len(found[process["pid"]]) == len(threads), "ps shows a thread twice"
    return found


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

    def next_step(self) -> Step | None:
        """The next step that the program takes; None when it has ended without an error."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + DEADLINE
        while b"\n" not in self._buffer:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise TargetError(self.complaint(f"said nothing for {DEADLINE:.0f} s"))
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                self._ended()
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        said: dict[str, Any] = json.loads(line)
        self.steps.append(said["step"])
        tids = self._outside() if self._namespace else {}
        return Step(said["step"], tuple(_located(process, tids) for process in said["processes"]))

    def go(self, *, last: bool = False) -> None:
        """Let the program go on to its next step; ``last``: by exec it is one that ends with its input."""
        assert self.process.stdin is not None
        if last:
            self.process.stdin.close()
            return
        with contextlib.suppress(BrokenPipeError):  # its end says why
            self.process.stdin.write(b"\n")

    def stderr(self) -> str:
        """What the program has written to its stderr so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "replace")

    def complaint(self, text: str) -> str:
        """``text`` with what is needed to make sense of it."""
        last = self.steps[-1] if self.steps else "the start"
        return f"{self.interpreter}: {text} after {last!r}; its stderr:\n{self.stderr()}"

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
    """The process with the PID and TIDs that the test's own PID namespace has for them."""
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
    """The environment of a target: this process's, less what would decide for it."""
    dropped = ("PYTHON", "THREADWATCH", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    path = {"PYTHONPATH": str(CHECKOUT)} if mode == "publish" else {}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "LAB_MODE": mode, **path, **extra}


def marked(mark: str) -> Iterator[int]:
    """The processes that a target started, by their environment."""
    wanted = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    yield int(entry)


def await_comm(pid: int, comm: str) -> None:
    """Wait until a process has become another program."""
    deadline = time.monotonic() + DEADLINE
    path = Path(f"/proc/{pid}/comm")
    while path.read_text() != comm + "\n":
        if time.monotonic() > deadline:
            raise TargetError(f"process {pid} is {path.read_text()!r}, not {comm!r}")
        time.sleep(0.005)


def kernel_comm(pid: int, tid: int) -> str | None:
    """The comm as the kernel has it, or None when the thread has ended."""
    try:
        data = Path(f"/proc/{pid}/task/{tid}/comm").read_bytes()
    except OSError:
        return None
    return data.removesuffix(b"\n").decode("utf-8", "replace")


def compare(
    expected: ExpectedProcess, shown: Mapping[int, Shown] | None
) -> tuple[list[str], list[str]]:
    """What is wrong with what ps shows of a process: wrong for good, and what may pass with time."""
    if shown is None:
        return [f"pid {expected.pid}: not shown at all"], []
    wrong: list[str] = []
    passing: list[str] = []
    for thread in expected.threads:
        if (found := shown.get(thread.tid)) is None:
            # a thread without a name that was born this moment may be left out: it may be about to say it
            absent = wrong if thread.source == "published" else passing
            absent.append(f"tid {thread.tid}: expected {_describe(thread)}, not shown")
        elif not _fits(thread, found):
            wrong.append(
                f"tid {thread.tid}: expected {_describe(thread)}, shown {found.name!r} ({found.source})"
            )
    known = {thread.tid for thread in expected.threads}
    for tid, found in shown.items():
        comm = kernel_comm(expected.pid, tid)
        if comm is None and tid not in known:
            continue  # it has ended since
        if comm != found.comm:
            wrong.append(f"tid {tid}: the kernel's comm is {comm!r}, shown {found.comm!r}")
        if found.state not in STATES:
            wrong.append(f"tid {tid}: unknown state {found.state!r}")
        if tid not in known and not (
            expected.others == "comm" and found.source == "comm" and found.name == found.comm
        ):
            passing.append(f"tid {tid}: nobody expected, shown {found.name!r} ({found.source})")
    return [f"pid {expected.pid}: {text}" for text in wrong], [
        f"pid {expected.pid}: {text}" for text in passing
    ]


class Daemon:
    """The eyes of a daemon: a poller that is never asked the same question for the first time."""

    def __init__(self, *, children: bool = False) -> None:
        """``children``: show the children of the processes that are asked for, too."""
        config = replace(DEFAULT_CONFIG, watch_unmatched=children)  # of others, we have no need
        self._children = children
        self._poller = Poller(ProcFS(), config, report=lambda _error: None)

    def shown(self, pids: Iterable[int]) -> dict[int, dict[int, Shown]]:
        """What one more poll shows of these processes."""
        wanted = frozenset(pids)
        self._poller.always_watch(wanted)
        return {
            process.key.pid: {
                t.tid: Shown(t.tid, t.name, t.source, t.comm, t.state) for t in process.threads
            }
            for process in self._poller.poll().processes
            if process.key.pid in wanted or (self._children and process.ppid in wanted)
        }

    def close(self) -> None:
        """Let go of all processes."""
        self._poller.close()


def drive(targets: Iterable[Target], ps_prefix: Sequence[str] = ()) -> None:
    """Run targets to their ends, and check every step of each; raise one error that tells all.

    ``ps_prefix``: the command of a threadwatch that has other rights than this process; then no daemon's
    eyes are used.
    """
    __tracebackhide__ = True
    with contextlib.closing(Daemon()) as daemon:
        problems = _drive(list(targets), ps_prefix, None if ps_prefix else daemon)
    if problems:
        raise AssertionError("\n".join(problems))


def _drive(alive: list[Target], ps_prefix: Sequence[str], daemon: Daemon | None) -> list[str]:
    problems: list[str] = []
    while alive:
        steps: dict[Target, Step] = {}
        for target in alive:
            try:
                step = target.next_step()
            except TargetError as error:
                problems.append(str(error))
                continue
            if step is not None:
                steps[target] = step
            elif (lines := len(target.stderr().splitlines())) != target.stderr_lines:
                problems.append(
                    target.complaint(f"{lines} lines on stderr, not {target.stderr_lines}")
                )
        problems += _look(steps, "ps", lambda pids: ps(pids, ps_prefix), patient=False)
        if daemon is not None:
            problems += _look(steps, "daemon", daemon.shown, patient=True)
        alive = list(steps)
        for target in alive:
            target.go(last=steps[target].name.startswith("exec: "))
    return problems


def _look(
    steps: Mapping[Target, Step],
    by: str,
    look: Callable[[list[int]], dict[int, dict[int, Shown]]],
    *,
    patient: bool,
) -> list[str]:
    """Compare one step of each target with what ``look`` shows; wait for what may pass, or for all."""
    deadline = time.monotonic() + SETTLE
    wanted = [process.pid for step in steps.values() for process in step.processes]
    while wanted:
        shown = look(wanted)
        wrong: list[str] = []
        passing: list[str] = []
        for target, step in steps.items():
            for process in step.processes:
                place = f"{target.interpreter}: {step.name}: {by}: "
                for kind, texts in zip(
                    (wrong, passing), compare(process, shown.get(process.pid)), strict=True
                ):
                    kind += [place + text for text in texts]
        if (wrong and not patient) or not (wrong or passing) or time.monotonic() > deadline:
            return wrong + passing
        time.sleep(0.05)
    return []


def _describe(thread: Expected) -> str:
    if thread.source == "comm":
        return "no Python name (comm)"
    name = cut(thread.name or "")
    return f"{name!r} (published)" + (" or its comm" if thread.source == "either" else "")


def _fits(thread: Expected, found: Shown) -> bool:
    nameless = found.source == "comm" and found.name == found.comm
    named = found.source == "published" and found.name == cut(thread.name or "")
    return {"published": named, "comm": nameless, "either": named or nameless}[thread.source]
