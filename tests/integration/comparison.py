"""What targets say of their threads, compared with what ``threadwatch ps`` and a daemon show.

Theory of operation. :func:`drive` runs the same program on many interpreters side by side: it takes one
step of each, asks ``ps --json`` about all their processes at once, compares, and lets them go on. A
thread's name must be right at the first look: what is not published can be read from memory, but not as
another name. All that is awaited is that threads without a name appear,
and that those which have ended disappear.

``ps`` starts afresh at each step. A daemon does not: it follows what has changed. So the same is asked of
one :class:`Poller` that lives as long as the targets do. That may take some polls to see an exec, or a
table where there was none.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.harness import (
    DEADLINE,
    Expected,
    ExpectedProcess,
    Step,
    Target,
    TargetError,
    threadwatch,
)
from tests.testbed import CHECKOUT
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.model.states import NAMES
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

SETTLE = 10.0
"""Seconds in which threads that have ended must be gone from what is shown."""
NAME_BYTES = 192
"""The documented length of a published name, in bytes of UTF-8."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A thread as ``ps --json`` shows it."""

    tid: int
    name: str
    source: str
    comm: str
    state: str


Eyes = Callable[[list[int]], dict[int, dict[int, Shown]]]
"""Shows the threads of some processes: by PID, by TID."""


def cut(name: str) -> str:
    """Return the name as published: at most NAME_BYTES of UTF-8, whole characters, surrogates escaped."""
    return name.encode("utf-8", "backslashreplace")[:NAME_BYTES].decode("utf-8", "ignore")


def shown_by_ps(pids: Iterable[int], prefix: Sequence[str] = ()) -> dict[int, dict[int, Shown]]:
    """Return what ``threadwatch ps --json PID…`` shows: by PID, by TID."""
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


def kernel_comm(pid: int, tid: int) -> str | None:
    """Return the comm as the kernel has it, or None when the thread has ended."""
    try:
        data = Path(f"/proc/{pid}/task/{tid}/comm").read_bytes()
    except OSError:
        return None
    return data.removesuffix(b"\n").decode("utf-8", "replace")


def compare(
    expected: ExpectedProcess, shown: Mapping[int, Shown] | None
) -> tuple[list[str], list[str]]:
    """Return what is wrong with what ps shows of a process: wrong for good, and what may pass with time."""
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
        if found.state not in NAMES:
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
        """Return what one more poll shows of these processes."""
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


def drive(
    targets: Iterable[Target], ps_prefix: Sequence[str] = (), *, eyes: Eyes | None = None
) -> None:
    """Run targets to their ends, and check every step of each; raise one error that tells all.

    ``ps_prefix``: the command of a threadwatch that has other rights than this process; then no daemon's
    eyes are used. ``eyes``: those of a daemon; then no others are used.
    """
    __tracebackhide__ = True
    with contextlib.closing(Daemon()) as daemon:
        problems = _drive(
            list(targets), ps_prefix, eyes or (None if ps_prefix else daemon.shown), ps=eyes is None
        )
    if problems:
        raise AssertionError("\n".join(problems))


def _drive(
    alive: list[Target], ps_prefix: Sequence[str], daemon: Eyes | None, *, ps: bool
) -> list[str]:
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
        if ps:
            problems += _look(steps, "ps", lambda pids: shown_by_ps(pids, ps_prefix), patient=False)
        if daemon is not None:
            problems += _look(steps, "daemon", daemon, patient=True)
        alive = list(steps)
        for target in alive:
            target.go(last=steps[target].name.startswith("exec: "))
    return problems


def _look(
    steps: Mapping[Target, Step],
    by: str,
    look: Eyes,
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
                place = f"{target}: {step.name}: {by}: "
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
        return f"no published name, {thread.name!r} (memory) or its comm"
    name = cut(thread.name or "")
    return f"{name!r} (published)" + (" or its comm" if thread.source == "either" else "")


def _fits(thread: Expected, found: Shown) -> bool:
    nameless = found.source == "comm" and found.name == found.comm
    published = found.source == "published" and found.name == cut(thread.name or "")
    read = found.source == "memory" and thread.name is not None and found.name == cut(thread.name)
    unpublished = nameless or read  # whether its memory may be read is not the target's to know
    return {"published": published, "comm": unpublished, "either": published or unpublished}[
        thread.source
    ]
