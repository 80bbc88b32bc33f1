"""The GIL that a publisher tells of is the one that its threads wait for, and no other.

Looked at as the kernel shows it, without anything of the daemon's but its reading of tables: in which
futex each thread waits (``/proc/PID/task/TID/syscall``), and what is in the GIL (``/proc/PID/mem``).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import harness, testbed
from tests.harness import DEADLINE, TARGETS, ExpectedProcess
from tests.integration.conftest import Fleet
from tests.testbed import Interpreter
from threadwatch.names.published import Published
from threadwatch.names.slots import Gil
from threadwatch.procfs import ProcFS, parse_stat

FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]
ENOUGH = 5
"""How often each thread that wants a GIL must be seen to wait for it, and to hold it."""


@dataclass(slots=True)
class Seen:
    """What was seen of one process."""

    waited: dict[str, int] = field(default_factory=dict)
    """How often each thread waited in a futex that is some GIL's, by name."""
    elsewhere: dict[str, int] = field(default_factory=dict)
    """How often in another futex."""
    held: dict[str, int] = field(default_factory=dict)
    """How often each held the GIL that it waits for."""
    wrong: list[str] = field(default_factory=list)

    def enough(self, names: Sequence[str], times: int) -> bool:
        """Return whether it has been seen so often that all of these wait for a GIL and hold it."""
        return all(
            self.waited.get(name, 0) >= times and self.held.get(name, 0) >= times for name in names
        )


@contextlib.contextmanager
def tables_of(pid: int) -> Iterator[Published]:
    """Yield what a process publishes."""
    with ProcFS().open_process(pid) as process:
        start_ticks = parse_stat(process.read("stat", "stat")).start_ticks
        published = Published(ns_pid=pid, start_ticks=start_ticks)
        try:
            assert published.find(process) == []
            published.read(process)
            yield published
        finally:
            published.close()


def interpreter_of(name: str) -> str:
    """Return the interpreter that a thread of ``targets/gil.py`` belongs to, by the thread's name."""
    return name.partition(":")[0] if ":" in name else "main"


def look(expected: ExpectedProcess, published: Published, seen: Seen, own: dict[str, Gil]) -> None:
    """Look once at each thread and each GIL. ``own``: by interpreter, where its threads were seen to wait."""
    names = {thread.tid: thread.name or "" for thread in expected.threads}
    for tid, name in names.items():
        words = Path(f"/proc/{expected.pid}/task/{tid}/syscall").read_text().split()
        if words[0] != str(FUTEX):
            continue
        address = int(words[1], 16)
        gils = [g for g in published.gils if g.address <= address < g.address + g.size]
        if not gils:
            seen.elsewhere[name] = seen.elsewhere.get(name, 0) + 1
        elif own.setdefault(interpreter_of(name), gils[0]) != gils[0]:
            seen.wrong.append(f"{name} waits for {gils[0]}, others of its interpreter do not")
        else:
            seen.waited[name] = seen.waited.get(name, 0) + 1
    memory = os.open(f"/proc/{expected.pid}/mem", os.O_RDONLY)
    try:
        for gil in published.gils:
            by = holder(memory, gil, published, names, seen)
            if by is not None and own.get(interpreter_of(by)) == gil:
                seen.held[by] = seen.held.get(by, 0) + 1
    finally:
        os.close(memory)


def holder(
    memory: int, gil: Gil, published: Published, names: Mapping[int, str], seen: Seen
) -> str | None:
    """Return which thread holds a GIL, by its ident and by its TID."""
    state, locked = struct.unpack("<Qi", os.pread(memory, 12, gil.address + 8))
    if locked not in (0, 1):
        seen.wrong.append(f"the GIL is locked {locked} times")
    if not locked:
        return None
    (ident,) = struct.unpack("<Q", os.pread(memory, 8, state + gil.ident_offset))
    tid = published.tid_of_ident(ident)
    if tid is None or tid not in names:
        seen.wrong.append(f"ident {ident:#x} is of TID {tid}, not of {names}")
        return None
    if gil.native_offset:
        (native,) = struct.unpack("<Q", os.pread(memory, 8, state + gil.native_offset))
        if native != tid:
            seen.wrong.append(f"ident {ident:#x} is of TID {tid}, its thread state says {native}")
    return names[tid]


def observe(
    interpreter: Interpreter, expected: ExpectedProcess, gils: int, times: int = ENOUGH
) -> None:
    """Watch a process until all that is expected has been seen, and nothing else."""
    with tables_of(expected.pid) as published:
        assert len(published.gils) == gils, interpreter
        for gil in published.gils:
            assert bool(gil.native_offset) == (interpreter.version >= (3, 11)), interpreter
        names = [thread.name or "" for thread in expected.threads]
        spinning = [name for name in names if "spin" in name]
        assert spinning
        seen = Seen()
        own: dict[str, Gil] = {}
        deadline = time.monotonic() + DEADLINE
        while not seen.enough(spinning, times):
            look(expected, published, seen, own)
            assert time.monotonic() < deadline, (interpreter, seen)
            time.sleep(0.001)
        assert seen.wrong == [], interpreter
        assert len(set(own.values())) == gils, own
        # a thread that wants the GIL waits for nothing else, and one that waits for something else
        # does not want it
        assert not set(seen.elsewhere) & set(spinning), (interpreter, seen)
        assert set(seen.waited) <= {*spinning, "MainThread"}, (interpreter, seen)
        locks = {"lock", "lock, timed", "queue", "event"}
        assert locks <= set(seen.elsewhere), (interpreter, seen)


def scenario(
    fleet: Fleet,
    interpreter: Interpreter,
    *arguments: str,
    gils: int = 1,
    times: int = ENOUGH,
    mode: str = "publish",
) -> None:
    """Run one scenario of ``targets/gil.py`` and observe the process in its only step."""
    target = fleet.start(interpreter, "gil.py", *arguments, mode=mode)
    step = target.next_step()
    assert step is not None
    (process,) = step.processes
    observe(interpreter, process, gils, times)
    target.go()
    assert target.next_step() is None


def test_found_is_what_cpython_uses(interpreter: Interpreter) -> None:
    """Whatever the interval, whichever thread asks, among others or forked: CPython's own symbol agrees."""
    done = subprocess.run(
        [*interpreter.command, *harness.STRICT, str(TARGETS / "gil.py"), "found"],
        env=harness.environ("publish", {}),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("mode", ["publish", "run"])
def test_threads_that_want_the_gil_wait_in_it(
    interpreter: Interpreter, mode: str, fleet: Fleet
) -> None:
    """Each is seen to wait in the GIL's bytes and to hold it; threads that wait for locks never."""
    scenario(fleet, interpreter, "waits", mode=mode)


def test_with_another_switch_interval(interpreter: Interpreter, fleet: Fleet) -> None:
    """An application that sets the interval, to the least there is, has a GIL as well."""
    # who waits for a millionth of a second at a time is hardly ever caught at it while a CPU is free
    scenario(fleet, interpreter, "waits", "0.000001", times=1)


def test_published_among_threads_that_want_the_gil(interpreter: Interpreter, fleet: Fleet) -> None:
    """Any thread can publish, even if others want the GIL meanwhile."""
    scenario(fleet, interpreter, "late")


@pytest.mark.parametrize("first", ["parent", "child"])
def test_forked(interpreter: Interpreter, first: str, fleet: Fleet) -> None:
    """A child tells of its own GIL, whether it inherits the place or has to look for it."""
    scenario(fleet, interpreter, "forked", first)


@pytest.mark.parametrize("version", [(3, 13), (3, 14), (3, 15)], ids=lambda v: f"{v[0]}.{v[1]}")
def test_subinterpreters(version: tuple[int, int], fleet: Fleet) -> None:
    """Each interpreter that has a GIL of its own tells of it, and its threads wait for that one."""
    scenario(fleet, testbed.require(*version), "interpreters", gils=3)


def test_withheld(interpreter: Interpreter, fleet: Fleet) -> None:
    """A process that may not read its own memory publishes its threads, and no GIL."""
    target = fleet.start(interpreter, "gil.py", "withheld")
    step = target.next_step()
    assert step is not None
    (process,) = step.processes
    with tables_of(process.pid) as published:
        header = published.header
        assert header is not None
        assert published.gils == ()
        for thread in process.threads:
            found = published.slot(thread.tid, header.start_ticks)
            assert found is not None
            assert found[1].name == thread.name
    target.go()
    assert target.next_step() is None
