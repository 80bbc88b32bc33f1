"""Reads loops from the memory of real processes, and holds them against what those write down themselves.

``python -m tests.loops_outside [SAMPLES [VERSION…]]`` is the long proof: that many samples on each
interpreter. Prints what it has seen, and ends with 1 if a label or an age was wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests import testbed
from tests.harness import DEADLINE, TARGETS, environ
from tests.loops_truth import Taken, Truth, Verdict, check, functions, is_enough, judge
from tests.natives import library_of
from tests.programs import environment, python
from tests.targets.loops import LABELS
from threadwatch.errors import ReadError
from threadwatch.model.loops import CALLBACK, UNKNOWN, LoopSample
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.procfs import ProcFS, parse_schedstat, parse_switches, parse_syscall
from threadwatch.procfs.reader import ProcessDir
from threadwatch.tasks.kind import ELSEWHERE
from threadwatch.tasks.loops import Loops
from threadwatch.waits.ends import Ends
from threadwatch.waits.on_cpu import Turns, has_run
from threadwatch.waits.syscalls import epolls

PROOF = 10_000
"""Samples of the long proof, on each interpreter."""
FUNCTIONS = 100
"""So many samples within one endpoint are enough."""
_FASTAPI = ("fastapi==0.121.1", "uvicorn==0.38.0", "httptools==0.7.1")
_HYPERCORN = ("fastapi==0.121.1", "hypercorn==0.17.3")
_SQLALCHEMY = (
    *("sqlalchemy==2.0.44", "greenlet==3.2.4", "aiosqlite==0.21.0"),
    *("starlette==0.50.0", "uvicorn==0.38.0"),
)
FRAMEWORKS = (
    ("3.10", ("aiohttp",), "aiohttp==3.13.2"),
    ("3.14", ("fastapi",), "fastapi==0.121.1", "uvicorn==0.38.0"),
    ("3.10", ("fastapi", "uvloop"), *_FASTAPI, "uvloop==0.19.0"),
    ("3.12", ("fastapi", "uvloop"), *_FASTAPI, "uvloop==0.22.1"),
    ("3.14", ("fastapi", "uvloop"), *_FASTAPI, "uvloop==0.22.1"),
    ("3.11", ("hypercorn",), *_HYPERCORN, "trio==0.27.0"),
    ("3.13", ("hypercorn",), *_HYPERCORN, "trio==0.33.0"),
    ("3.12", ("gunicorn",), "flask==3.1.2", "gunicorn==23.0.0", "gevent==25.9.1"),
    ("3.10", ("uvicorn", "django"), "django==5.2.8", "uvicorn==0.38.0"),
    ("3.12", ("hypercorn on asyncio", "django"), "django==5.2.8", "hypercorn==0.18.0"),
    ("3.13", ("uvicorn", "django"), "django==5.2.8", "uvicorn==0.38.0"),
    ("3.11", ("uvicorn", "starlette"), "starlette==0.50.0", "uvicorn==0.38.0"),
    ("3.15", ("hypercorn on asyncio", "starlette"), "starlette==0.50.0", "hypercorn==0.18.0"),
    ("3.10", ("uvicorn", "sqlalchemy"), *_SQLALCHEMY),
    ("3.12", ("uvicorn", "sqlalchemy"), *_SQLALCHEMY),
    ("3.14", ("uvicorn", "sqlalchemy"), *_SQLALCHEMY),
)
"""An interpreter, the arguments of ``endpoints.py``, and what is to be installed for them."""
APPLICATIONS = frozenset({"django", "starlette", "sqlalchemy"})
"""Those that more than one server can serve."""
EPOLLS = epolls(os.uname().machine)
UVLOOPS = (
    ("3.9", "uvloop==0.17.0"),
    ("3.10", "uvloop==0.19.0"),
    ("3.11", "uvloop==0.21.0"),
    ("3.12", "uvloop==0.22.1"),
    ("3.13", "uvloop==0.22.1"),
    ("3.14", "uvloop==0.22.1"),
    ("3.15", "uvloop==0.23.0"),
)
"""An interpreter, and the release of uvloop that its proof runs."""
TRIOS = (
    ("3.9", "trio==0.22.2"),
    ("3.10", "trio==0.24.0"),
    ("3.11", "trio==0.27.0"),
    ("3.12", "trio==0.31.0"),
    ("3.13", "trio==0.33.0"),
    ("3.14", "trio==0.35.0"),
    ("3.15", "trio==0.35.0"),
)
"""The same of trio."""
GEVENTS = (
    ("3.9", "gevent==25.9.1"),
    ("3.10", "gevent==24.2.1"),
    ("3.11", "gevent==23.9.1"),
    ("3.12", "gevent==25.9.1"),
    ("3.13", "gevent==25.9.1"),
    ("3.14", "gevent==26.9.0"),
    ("3.15", "gevent==26.9.0"),
)
"""The same of gevent."""
LOOKS_BETWEEN = 50
"""How many looks are taken before it is asked again whether that is enough."""
_EARLY_NS = 2_000_000
"""A sleep is no longer than to this time before its end, because it can take longer."""
LASTS_S = 2 * DEADLINE
"""So long programs run, and their records have room for it: longer than anything looks at them."""


class Outside:
    """One process as it is seen from outside: its loops."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.dir: ProcessDir = ProcFS().open_process(pid)
        with contextlib.ExitStack() as opened:
            opened.callback(self.dir.close)
            self.memory = self.dir.open_memory()
            auxv = self.dir.read("auxv", "auxv")
            self.python = find_python(Snapshot(self.memory, FIRST_LOOK), auxv, pid)
            self.loops = Loops(self.python)
            opened.pop_all()

    def sample(self, now_ns: int, *, functions: bool = False) -> list[LoopSample]:
        """Return what has each loop now, as the daemon learns it."""
        wanted, slept, given = {}, {}, {}
        for tid in self.loops.tids:
            call = parse_syscall(self.dir.read_task(tid, "syscall"))
            wanted[tid] = call is None
            if call is not None:
                slept[tid] = call.args[0] & 0xFFFFFFFF if call.number in EPOLLS else ELSEWHERE
            given[tid] = parse_schedstat(self.dir.read_task(tid, "schedstat"))[2]
        samples = self.loops.sample(self.memory, now_ns, functions=functions, asleep=slept.get)
        return [self._settle(one, wanted, given) if one.woken else one for one in samples]

    def _settle(
        self, sample: LoopSample, wanted: dict[int, bool], given: dict[int, int]
    ) -> LoopSample:
        """Return a sample of a thread that may only have been woken: if it has no CPU, it has been."""
        tid = sample.tid
        wants, left = parse_switches(self.dir.read_task(tid, "status"))
        turns = Turns(parse_schedstat(self.dir.read_task(tid, "schedstat"))[2], left, wants)
        if has_run(given[tid], turns, wanted=wanted[tid], at_work=False):
            return sample
        return sample._replace(holder=None, age_ns=None if sample.age_ns is None else 0)

    def find(self) -> frozenset[int]:
        """Look which threads run a loop; the threads. A look while modules are imported can fail."""
        with contextlib.suppress(ReadError):
            self.loops.find(self.memory, time.monotonic_ns())
        return self.loops.tids

    def find_all(self, count: int) -> None:
        """Look until that many threads run a loop."""
        deadline = time.monotonic() + DEADLINE
        while len(self.find()) < count:
            assert time.monotonic() < deadline, f"{len(self.loops.tids)} loops, not {count}"

    def close(self) -> None:
        """Let go of it."""
        self.dir.close()


def started(
    interpreter: testbed.Interpreter, directory: Path, scenario: str, library: str = ""
) -> contextlib.AbstractContextManager[tuple[int, dict[int, Path]]]:
    """Start the program ``loops.py``, or that of trio or gevent: see :func:`running`.

    ``library``: pip's words for the release of what it runs on; none: asyncio's own loop.
    """
    extra: dict[str, str] = {}
    program = "loops.py"
    if library.startswith(("trio", "gevent")):
        program = library.partition("=")[0] + "_loops.py"
    if library.startswith("trio"):
        command = python(interpreter, environment(interpreter, library))
        interpreter = replace(interpreter, command=command)
    elif library:
        interpreter, extra = with_ring(interpreter, library, directory)
    command = (*interpreter.command, "-W", "ignore")
    return running(command, program, directory, scenario, str(LASTS_S), **extra)


def with_ring(
    interpreter: testbed.Interpreter, release: str, directory: Path, *others: str
) -> tuple[testbed.Interpreter, dict[str, str]]:
    """Return an interpreter with releases of libraries (pip's words), and the environment for a loop in C.

    There, waits in an epoll are written down. ``directory``: has what is compiled for that.
    """
    command = python(interpreter, environment(interpreter, release, *others))
    ring = str(library_of("ring", directory))
    return replace(interpreter, command=command), {"RING": ring, "LD_PRELOAD": ring}


def uvloop_names(interpreter: testbed.Interpreter) -> list[str]:
    """Return what callbacks are called on uvloop, in the order of LABELS: by the function that runs."""
    names = list(LABELS)
    names[names.index("(callback) Callable")] += ".__call__"
    if interpreter.version >= (3, 11):
        return names
    return [
        CALLBACK + one.rpartition(".")[2] if one.startswith(CALLBACK) and "." in one else one
        for one in names
    ]


def names_of(interpreter: testbed.Interpreter, library: str) -> Sequence[str]:
    """Return what the steps of LABELS are called on a library, which is as for :func:`started`."""
    if library.startswith("trio"):
        return [name if name in ("", "named-é") else f"__main__.{name}" for name in LABELS]
    if library.startswith("gevent"):
        return list(LABELS)  # but its loop is in C
    return uvloop_names(interpreter) if library.startswith("uvloop") else LABELS


@contextlib.contextmanager
def running(
    command: Sequence[str], program: str, directory: Path, *arguments: str, **extra: str
) -> Iterator[tuple[int, dict[int, Path]]]:
    """Run a program that writes down what its loops do: its PID, and by TID the file of each thread."""
    process = subprocess.Popen(
        [*command, str(TARGETS / program), str(directory), *arguments],
        env=environ("plain", extra),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], DEADLINE)[0], "no answer"
        pid, tids = json.loads(process.stdout.readline())
        yield pid, {tid: directory / name for name, tid in tids.items()}
    finally:
        process.kill()
        process.communicate()


def watch(
    outside: Outside,
    files: dict[int, Path],
    enough: Callable[[Taken], bool],
    *,
    functions: bool = False,
) -> Taken:
    """Take samples at random moments until they are ``enough``, or until :data:`DEADLINE`.

    Loops are looked for now and then, and whenever a thread runs none that is known.
    """
    taken: Taken = {tid: [] for tid in files}
    found_ns = 0
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and not enough(taken):
        for _ in range(LOOKS_BETWEEN):
            time.sleep(random.uniform(0, 0.008))
            if outside.loops.tids < files.keys() or time.monotonic_ns() - found_ns > 300_000_000:
                outside.find()
                found_ns = time.monotonic_ns()
            start_ns = time.monotonic_ns()
            samples = outside.sample(start_ns, functions=functions)
            end_ns = time.monotonic_ns()
            for sample in samples:
                taken[sample.tid].append((start_ns, end_ns, sample))
    return taken


def watch_enough(
    outside: Outside,
    files: dict[int, Path],
    labels: Iterable[str],
    names: Sequence[str] = LABELS,
    *,
    functions: bool = False,
) -> Taken:
    """Take samples until :func:`.is_enough` says so, and check them; return them."""
    found = frozenset(labels)
    taken = watch(
        outside, files, lambda so_far: is_enough(files, so_far, found, names), functions=functions
    )
    check(files, taken, found, names)
    return taken


def lags(outside: Outside, tid: int, count: int) -> list[tuple[int, int]]:
    """Learn at random moments how long an event waits for a process's loop, as the daemon does.

    Return the moments and the waits: ``count`` of them, or as many as there are by :data:`DEADLINE`.
    """
    told: list[tuple[int, int]] = []
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and len(told) < count:
        time.sleep(random.uniform(0, 0.008))
        outside.find()
        now_ns = time.monotonic_ns()
        sample = next(iter(outside.sample(now_ns)), None)
        if sample is None or sample.iteration is None:
            continue
        if sample.holder is None:
            told.append((now_ns, 0))
            continue
        ends = Ends()
        ends.look(sample.iteration, now_ns, sample.holder, sample.age_ns or 0, 0)
        while ends.due_ns is not None:
            time.sleep(max(ends.due_ns - time.monotonic_ns() - _EARLY_NS, 0) / 1e9)
            while time.monotonic_ns() < ends.due_ns:
                pass  # what is late is one thing; what is told of what is on time, another
            ends.see(outside.loops.iterations(outside.memory).get(tid), time.monotonic_ns())
        (wait,) = ends.take()
        told.append((now_ns, wait.lag_ns))
    return told


def at_least(count: int) -> Callable[[Taken], bool]:
    """Return what says whether there are that many samples of each thread."""
    return lambda taken: all(len(samples) >= count for samples in taken.values())


def main(arguments: list[str]) -> int:
    """Run the long proof."""
    testbed.enter()
    count = int(arguments[0]) if arguments else PROOF
    wrong = 0
    chosen = [
        one for one in testbed.interpreters() if not arguments[1:] or str(one) in arguments[1:]
    ]
    runs = [(one, "") for one in chosen]
    runs += [
        (one, library)
        for one in chosen
        for version, library in UVLOOPS + TRIOS + GEVENTS
        if str(one) == version
    ]
    for interpreter, library in runs:
        for scenario in ("mixed", "threads" if "gevent" in library else "again"):
            for verdict in _proof(interpreter, scenario, count, library):
                wrong += len(verdict.wrong) + len(verdict.wrong_ages)
                print(
                    f"{interpreter.release} {library or 'asyncio'} {scenario}: {verdict.samples} samples, "
                    f"{verdict.strict} of them in one step, {verdict.seen[UNKNOWN]} unknown, "
                    f"{len(verdict.wrong)} wrong labels, {len(verdict.wrong_ages)} wrong ages"
                )
                print("   ", dict(verdict.seen.most_common()))
                for line in (*verdict.wrong[:5], *verdict.wrong_ages[:5]):
                    print("    wrong:", line)
        if library.startswith(("uvloop", "gevent")):
            _prove_lags(interpreter, library, count)
    for version, served, *requirements in FRAMEWORKS:
        if not arguments[1:] or version in arguments[1:]:
            wrong += _prove_endpoints(version, served, requirements, count)
    return 1 if wrong else 0


def _prove_lags(interpreter: testbed.Interpreter, library: str, count: int) -> None:
    """Print how lags that are told by ends of iterations compare with what events waited."""
    with tempfile.TemporaryDirectory() as directory:
        with started(interpreter, Path(directory), "mixed", library) as (pid, files):
            outside = Outside(pid)
            outside.find_all(1)
            told = lags(outside, pid, min(count, 2000))
            outside.close()
        truth = Truth(files[pid], names_of(interpreter, library))
    judged = [(truth.waits_ns(at), lag) for at, lag in told if truth.selects_after(at)]
    shares = []
    for bound in (0.001, 0.005, 0.01, 0.025):
        true, seen = (
            sum(one[which] > bound * 1e9 for one in judged) / max(len(judged), 1)
            for which in (0, 1)
        )
        error = (true * (1 - true) / max(len(judged), 1)) ** 0.5
        shares.append(f"> {bound:g} s: {seen:.3f}, truly {true:.3f} ± {error:.3f}")
    print(f"    lags of {len(judged)} looks: {'; '.join(shares)}")


def endpoints(
    interpreter: testbed.Interpreter,
    arguments: tuple[str, ...],
    requirements: Sequence[str],
    count: int = FUNCTIONS,
) -> tuple[list[tuple[str, str | None]], list[tuple[str, str | None]]]:
    """Hold the application's functions under a framework's tasks against the endpoints that ran.

    Return the endpoint and what was seen, of each sample in one step; and those of them that are wrong. There
    are ``count`` of them, and both endpoints were seen, unless that takes longer than :data:`DEADLINE`.
    """
    command = python(interpreter, environment(interpreter, *requirements))
    with tempfile.TemporaryDirectory() as directory:
        with running([*command, "-W", "ignore"], "endpoints.py", Path(directory), *arguments) as (
            pid,
            files,
        ):

            def enough(taken: Taken) -> bool:
                told = functions(Truth(files[pid]), taken[pid])
                return len(told) >= count and len({one for one, found in told if found}) > 1

            outside = Outside(pid)
            outside.find_all(1)
            (taken,) = watch(outside, files, enough, functions=True).values()
            outside.close()
        told = functions(Truth(files[pid]), taken)
    around = f"of_{arguments[1]}" if arguments[-1] in APPLICATIONS else arguments[0]
    nested = "" if interpreter.version < (3, 11) else f"{around}.<locals>."
    wrong: list[tuple[str, str | None]] = [
        (step, function)
        for step, function in told
        # frames end where a greenlet begins: what that runs is the outermost then
        if function not in {f"endpoints.{nested}{step}", f"endpoints.{nested}{step}_query", None}
    ]
    return told, wrong


def _prove_endpoints(
    version: str, arguments: tuple[str, ...], requirements: list[str], count: int
) -> int:
    """Print how :func:`endpoints` compare; return how many are wrong."""
    (interpreter,) = (one for one in testbed.interpreters() if str(one) == version)
    told, wrong = endpoints(interpreter, arguments, requirements, min(count, 4000))
    unknown = sum(function is None for _, function in told)
    print(
        f"{requirements} on {interpreter.release}: {len(told)} samples in one step, {unknown} unknown, "
        f"{len(wrong)} wrong functions {wrong[:5]}: {Counter(function for _, function in told)}"
    )
    return len(wrong)


def _proof(
    interpreter: testbed.Interpreter, scenario: str, count: int, library: str
) -> list[Verdict]:
    """Take that many samples of one program, which is started again as often as that takes."""
    verdicts: list[Verdict] = []
    while sum(verdict.samples for verdict in verdicts) < count:
        with tempfile.TemporaryDirectory() as directory:
            with started(interpreter, Path(directory), scenario, library) as (pid, files):
                outside = Outside(pid)
                outside.find_all(len(files))
                taken = watch(outside, files, at_least(min(count, 4000)))
                outside.close()
            names = names_of(interpreter, library)
            verdicts += judge(files, taken, names, lasting=scenario != "again").values()
    return verdicts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
