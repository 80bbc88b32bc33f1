"""Reads loops from the memory of real processes, and holds them against what those write down themselves.

``python -m tests.loops_outside [SAMPLES [VERSION…]]`` is the long proof: that many samples on each
interpreter. Prints what it has seen, and ends with 1 if a label or an age was wrong.
"""

from __future__ import annotations

import bisect
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import Struct

from tests import testbed
from tests.harness import DEADLINE, TARGETS, environ
from tests.natives import library_of
from tests.programs import environment, python
from tests.targets.loops import BACK, LABELS, NOTHING, SELECTS
from threadwatch.errors import ReadError
from threadwatch.model.loops import CALLBACK, LOOP, UNKNOWN, LoopSample
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.procfs import ProcFS, parse_schedstat, parse_switches, parse_syscall
from threadwatch.procfs.reader import ProcessDir
from threadwatch.tasks.kind import ELSEWHERE
from threadwatch.tasks.loops import Loops
from threadwatch.waits.on_cpu import Turns, has_run
from threadwatch.waits.syscalls import epolls

SAMPLES = 10_000
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
SLACK_NS = 1000
"""Between the clock as the loop reads it, in seconds, and as it is written down, in ns."""
MS_NS = 1_100_000
"""The same for uvloop, whose clock has milliseconds."""
EPOLLS = epolls(os.uname().machine)
GAP = "(what writes nothing down)"
"""Tasks and callbacks of the program that only start others, and those of asyncio itself."""
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
_PAIR = Struct("=QQ")


class Outside:
    """One process as it is seen from outside: its loops."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.dir: ProcessDir = ProcFS().open_process(pid)
        self.memory = self.dir.open_memory()
        auxv = self.dir.read("auxv", "auxv")
        self.python = find_python(Snapshot(self.memory, FIRST_LOOK), auxv, pid)
        self.loops = Loops(self.python)

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
        command = python(interpreter, environment(interpreter, library))
        interpreter = replace(interpreter, command=command)
    elif library:
        interpreter, extra = on_uvloop(interpreter, library, directory)
    command = (*interpreter.command, "-W", "ignore")
    return running(command, program, directory, scenario, "60", **extra)


def on_uvloop(
    interpreter: testbed.Interpreter, release: str, directory: Path
) -> tuple[testbed.Interpreter, dict[str, str]]:
    """Return an interpreter with a release of uvloop (pip's words), and the environment that uses it.

    ``directory``: has what is compiled for it.
    """
    command = python(interpreter, environment(interpreter, release))
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


class Truth:
    """What a loop has written down."""

    def __init__(self, file: Path, names: Sequence[str] = LABELS) -> None:
        """``names``: what the steps are called, in the order of LABELS."""
        self.names = names
        self.known = frozenset({None, LOOP, UNKNOWN, *names[BACK + 1 :]})
        pairs = [pair for pair in _PAIR.iter_unpack(file.read_bytes()) if pair[0]]
        self._times: list[int] = [moment for moment, _ in pairs]
        self._what: list[int] = [number for _, number in pairs]

    def between(self, first_ns: int, last_ns: int) -> range:
        """Return the numbers of the entries that hold at some moment of that time."""
        first = bisect.bisect_right(self._times, first_ns) - 1
        return range(max(first, 0), bisect.bisect_right(self._times, last_ns))

    def ends_ns(self) -> int:
        """Return the moment of the last entry."""
        return self._times[-1]

    def may_be(self, entry: int) -> set[str | None]:
        """Return what may have the loop while an entry holds.

        While a step is taken, only that. Between two steps the loop itself, what has just written down its
        end or is about to write down its beginning, or what writes nothing down (see :data:`GAP`).
        """
        what = self._what[entry]
        if what > BACK:
            return {self.names[what]}
        if what == SELECTS:
            # On a CPU there, a loop in C does its own work, for all that can be seen.
            return {None} if self.names is LABELS else {None, LOOP}
        before = next((n for n in self._what[entry::-1] if n > BACK), NOTHING)
        after = next((n for n in self._what[entry:] if n > BACK), NOTHING)
        return {None, LOOP, GAP, *(self.names[n] for n in (before, after) if n > BACK)}

    def step_at(self, first_ns: int, last_ns: int) -> str | None:
        """Return the step that was taken all that time; None: there was none."""
        entries = self.between(first_ns, last_ns)
        if len(entries) != 1 or last_ns > self.ends_ns() or not self.is_step(entries[0]):
            return None
        return self.names[self._what[entries[0]]]

    def selects_between(self, first_ns: int, last_ns: int) -> bool:
        """Return whether the loop has gone to its selector between two moments."""
        first, last = (bisect.bisect_right(self._times, at) for at in (first_ns, last_ns))
        return SELECTS in self._what[first:last]

    def waits_ns(self, at_ns: int) -> int:
        """Return how long an event waits that comes at that moment: until the loop goes to its selector."""
        entry = bisect.bisect_right(self._times, at_ns) - 1
        if self._what[entry] == SELECTS:
            return 0
        return self._times[self._what.index(SELECTS, entry)] - at_ns

    def is_step(self, entry: int) -> bool:
        """Return whether a step is taken while an entry holds."""
        return self._what[entry] > BACK

    def began_ns(self, entry: int) -> tuple[int, int] | None:
        """Return between which moments the iteration began that runs in an entry; None: none does."""
        while (entry >= 0 and self._what[entry] > BACK) or self._what[entry] == NOTHING:
            entry -= 1
        if entry < 0 or self._what[entry] == SELECTS:
            return None
        after = (
            self._times[entry + 1] if entry + 1 < len(self._times) else self._times[entry] + 10**12
        )
        return self._times[entry], after


@dataclass
class Verdict:
    """How samples compare with the truth."""

    samples: int = 0
    strict: int = 0
    """Those taken while one step was taken, so that only one answer was right."""
    seen: Counter[str | None] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    wrong_ages: list[str] = field(default_factory=list)
    lasting: bool = True
    """The loop is the same all the time. Of others, one can be in an iteration of the number that another
    was in, and cannot be told from that."""
    _before: tuple[int, int, LoopSample] | None = None

    def add(self, truth: Truth, taken: tuple[int, int, LoopSample]) -> None:
        """Judge a sample, taken between two moments."""
        start_ns, end_ns, sample = taken
        if end_ns > truth.ends_ns():
            return
        self.samples += 1
        self.seen[sample.holder] += 1
        entries = truth.between(start_ns, end_ns)
        allowed: set[str | None] = set()
        for entry in entries:
            allowed |= truth.may_be(entry)
        self.strict += len(entries) == 1 and len(allowed) == 1
        holder = GAP if sample.holder not in truth.known else sample.holder
        if holder not in allowed and holder != UNKNOWN:
            self.wrong.append(f"{sample.holder}, not {allowed}, in {end_ns - start_ns} ns")
        before = None
        if sample.iteration is not None:
            before, self._before = self._before, taken
            if before and not self.lasting and before[2].iteration == sample.iteration:
                return
        self._judge_age(truth, entries, start_ns, sample)
        if before is not None:
            self._judge_iteration(truth, before, taken)

    def _judge_age(self, truth: Truth, entries: range, start_ns: int, sample: LoopSample) -> None:
        if sample.age_ns is None:
            return
        if sample.age_ns == 0 and (len(entries) > 1 or not truth.is_step(entries[0])):
            return  # an iteration may have begun or ended meanwhile
        began = [found for entry in entries if (found := truth.began_ns(entry)) is not None]
        began_ns = start_ns - sample.age_ns
        if sample.iteration is not None:  # it is as old as that at least
            fits = any(first - MS_NS <= began_ns for first, _ in began)
        else:
            fits = any(first - SLACK_NS <= began_ns <= last + SLACK_NS for first, last in began)
        if not fits:
            self.wrong_ages.append(f"{sample} at {start_ns}: {began}")

    def _judge_iteration(
        self, truth: Truth, before: tuple[int, int, LoopSample], taken: tuple[int, int, LoopSample]
    ) -> None:
        """Judge the number of an iteration: it is another if the loop has gone to its selector since."""
        first, second = before[2], taken[2]
        if first.iteration == second.iteration:
            wrong = truth.selects_between(before[1] + SLACK_NS, taken[0])
        else:
            wrong = not truth.selects_between(before[0], taken[1])
        if wrong:
            self.wrong_ages.append(f"iterations {before} {taken}")


def watch(
    outside: Outside, files: dict[int, Path], count: int, *, functions: bool = False
) -> dict[int, list[tuple[int, int, LoopSample]]]:
    """Take that many samples at random moments, and look for loops now and then."""
    taken: dict[int, list[tuple[int, int, LoopSample]]] = {tid: [] for tid in files}
    found_ns = 0
    for _ in range(count):
        time.sleep(random.uniform(0, 0.008))
        if time.monotonic_ns() - found_ns > 300_000_000:
            outside.find()
            found_ns = time.monotonic_ns()
        start_ns = time.monotonic_ns()
        samples = outside.sample(start_ns, functions=functions)
        end_ns = time.monotonic_ns()
        for sample in samples:
            taken[sample.tid].append((start_ns, end_ns, sample))
    return taken


def judge(
    files: dict[int, Path],
    taken: dict[int, list[tuple[int, int, LoopSample]]],
    names: Sequence[str] = LABELS,
    *,
    lasting: bool = True,
) -> dict[int, Verdict]:
    """Hold samples against the truth, by TID. The last two are as in :class:`Truth` and :class:`Verdict`."""
    verdicts = {}
    for tid, file in files.items():
        truth, verdict = Truth(file, names), Verdict(lasting=lasting)
        for one in taken[tid]:
            verdict.add(truth, one)
        verdicts[tid] = verdict
    return verdicts


def functions(
    truth: Truth, taken: list[tuple[int, int, LoopSample]]
) -> list[tuple[str, str | None]]:
    """Return for each sample that was taken within one step: the step, and the function that was read."""
    return [
        (step, sample.function)
        for start_ns, end_ns, sample in taken
        if (step := truth.step_at(start_ns, end_ns)) is not None
    ]


def main(arguments: list[str]) -> int:
    """Run the long proof."""
    testbed.enter()
    count = int(arguments[0]) if arguments else SAMPLES
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
    for version, served, *requirements in FRAMEWORKS:
        if not arguments[1:] or version in arguments[1:]:
            wrong += _prove_endpoints(version, served, requirements, count)
    return 1 if wrong else 0


def endpoints(
    interpreter: testbed.Interpreter,
    arguments: tuple[str, ...],
    requirements: Sequence[str],
    count: int,
) -> tuple[list[tuple[str, str | None]], list[tuple[str, str | None]]]:
    """Hold the application's functions under a framework's tasks against the endpoints that ran.

    Return the endpoint and what was seen, of each sample in one step; and those of them that are wrong.
    """
    command = python(interpreter, environment(interpreter, *requirements))
    with tempfile.TemporaryDirectory() as directory:
        with running([*command, "-W", "ignore"], "endpoints.py", Path(directory), *arguments) as (
            pid,
            files,
        ):
            outside = Outside(pid)
            outside.find_all(1)
            (taken,) = watch(outside, files, min(count, 4000), functions=True).values()
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
    told, wrong = endpoints(interpreter, arguments, requirements, count)
    unknown = sum(function is None for _, function in told)
    print(
        f"{requirements} on {interpreter.release}: {len(told)} samples in one step, {unknown} unknown, "
        f"{len(wrong)} wrong functions {wrong[:5]}: {Counter(function for _, function in told)}"
    )
    return len(wrong)


def _proof(
    interpreter: testbed.Interpreter, scenario: str, count: int, library: str
) -> list[Verdict]:
    """Take that many samples of one program, again as often as its record is full."""
    verdicts: list[Verdict] = []
    while sum(verdict.samples for verdict in verdicts) < count:
        with tempfile.TemporaryDirectory() as directory:
            with started(interpreter, Path(directory), scenario, library) as (pid, files):
                outside = Outside(pid)
                outside.find_all(len(files))
                taken = watch(outside, files, min(count, 4000))
                outside.close()
            names = names_of(interpreter, library)
            verdicts += judge(files, taken, names, lasting=scenario != "again").values()
    return verdicts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
