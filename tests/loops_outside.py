"""Reads loops from the memory of real processes, and holds them against what those write down themselves.

``python -m tests.loops_outside [SAMPLES [VERSION…]]`` is the long proof: that many samples on each
interpreter. Prints what it has seen, and ends with 1 if a label or an age was wrong.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct

from tests import testbed
from tests.harness import DEADLINE, TARGETS, environ
from tests.programs import environment, python
from tests.targets.loops import BACK, LABELS, NOTHING, SELECTS
from threadwatch.errors import ReadError
from threadwatch.model.loops import LOOP, UNKNOWN, LoopSample
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.snapshot import Snapshot
from threadwatch.procfs import ProcFS
from threadwatch.procfs.reader import ProcessDir
from threadwatch.tasks.loops import Loops

SAMPLES = 10_000
FRAMEWORKS = (
    ("3.10", "aiohttp", "aiohttp==3.13.2"),
    ("3.14", "fastapi", "fastapi==0.121.1", "uvicorn==0.38.0"),
)
"""An interpreter, a framework, and what is to be installed for it."""
SLACK_NS = 1000
"""Between the clock as the loop reads it, in seconds, and as it is written down, in ns."""
GAP = "(what writes nothing down)"
"""Tasks and callbacks of the program that only start others, and those of asyncio itself."""
KNOWN = frozenset({None, LOOP, UNKNOWN, *LABELS[BACK + 1 :]})
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
    interpreter: testbed.Interpreter, directory: Path, scenario: str
) -> contextlib.AbstractContextManager[tuple[int, dict[int, Path]]]:
    """Start the program ``loops.py``: see :func:`running`."""
    return running([*interpreter.command, "-W", "ignore"], "loops.py", directory, scenario, "60")


@contextlib.contextmanager
def running(
    command: Sequence[str], program: str, directory: Path, *arguments: str
) -> Iterator[tuple[int, dict[int, Path]]]:
    """Run a program that writes down what its loops do: its PID, and by TID the file of each thread."""
    process = subprocess.Popen(
        [*command, str(TARGETS / program), str(directory), *arguments],
        env=environ("plain", {}),
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

    def __init__(self, file: Path) -> None:
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
            return {LABELS[what]}
        if what == SELECTS:
            return {None}
        before = next((n for n in self._what[entry::-1] if n > BACK), NOTHING)
        after = next((n for n in self._what[entry:] if n > BACK), NOTHING)
        return {None, LOOP, GAP, *(LABELS[n] for n in (before, after) if n > BACK)}

    def step_at(self, first_ns: int, last_ns: int) -> str | None:
        """Return the step that was taken all that time; None: there was none."""
        entries = self.between(first_ns, last_ns)
        if len(entries) != 1 or last_ns > self.ends_ns() or not self.is_step(entries[0]):
            return None
        return LABELS[self._what[entries[0]]]

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
        holder = GAP if sample.holder not in KNOWN else sample.holder
        if holder not in allowed and holder != UNKNOWN:
            self.wrong.append(f"{sample.holder}, not {allowed}, in {end_ns - start_ns} ns")
        self._judge_age(truth, entries, start_ns, sample)

    def _judge_age(self, truth: Truth, entries: range, start_ns: int, sample: LoopSample) -> None:
        if sample.age_ns is None:
            return
        if sample.age_ns == 0 and (len(entries) > 1 or not truth.is_step(entries[0])):
            return  # an iteration may have begun or ended meanwhile
        began = [found for entry in entries if (found := truth.began_ns(entry)) is not None]
        began_ns = start_ns - sample.age_ns
        if not any(first - SLACK_NS <= began_ns <= last + SLACK_NS for first, last in began):
            self.wrong_ages.append(f"{sample} at {start_ns}: {began}")


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
        samples = outside.loops.sample(outside.memory, start_ns, functions=functions)
        end_ns = time.monotonic_ns()
        for sample in samples:
            taken[sample.tid].append((start_ns, end_ns, sample))
    return taken


def judge(
    files: dict[int, Path], taken: dict[int, list[tuple[int, int, LoopSample]]]
) -> dict[int, Verdict]:
    """Hold samples against the truth, by TID."""
    verdicts = {}
    for tid, file in files.items():
        truth, verdict = Truth(file), Verdict()
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
    for interpreter in testbed.interpreters():
        if arguments[1:] and str(interpreter) not in arguments[1:]:
            continue
        for scenario in ("mixed", "again"):
            for verdict in _proof(interpreter, scenario, count):
                wrong += len(verdict.wrong) + len(verdict.wrong_ages)
                print(
                    f"{interpreter.release} {scenario}: {verdict.samples} samples, {verdict.strict} of them "
                    f"in one step, {verdict.seen[UNKNOWN]} unknown, {len(verdict.wrong)} wrong labels, "
                    f"{len(verdict.wrong_ages)} wrong ages"
                )
                print("   ", dict(verdict.seen.most_common()))
                for line in (*verdict.wrong[:5], *verdict.wrong_ages[:5]):
                    print("    wrong:", line)
    for version, framework, *requirements in FRAMEWORKS:
        if not arguments[1:] or version in arguments[1:]:
            wrong += _prove_endpoints(version, framework, requirements, count)
    return 1 if wrong else 0


def _prove_endpoints(version: str, framework: str, requirements: list[str], count: int) -> int:
    """Hold the application's functions under a framework's tasks against the endpoints that ran."""
    (interpreter,) = (one for one in testbed.interpreters() if str(one) == version)
    command = python(interpreter, environment(interpreter, *requirements))
    with tempfile.TemporaryDirectory() as directory:
        with running([*command, "-W", "ignore"], "endpoints.py", Path(directory), framework) as (
            pid,
            files,
        ):
            outside = Outside(pid)
            outside.find_all(1)
            (taken,) = watch(outside, files, min(count, 4000), functions=True).values()
            outside.close()
        told = functions(Truth(files[pid]), taken)
    nested = "" if interpreter.version < (3, 11) else f"{framework}.<locals>."
    wrong = [
        (step, function)
        for step, function in told
        if function not in {f"endpoints.{nested}{step}", None}
    ]
    unknown = sum(function is None for _, function in told)
    print(
        f"{requirements[0]} on {interpreter.release}: {len(told)} samples in one step, {unknown} unknown, "
        f"{len(wrong)} wrong functions {wrong[:5]}: {Counter(function for _, function in told)}"
    )
    return len(wrong)


def _proof(interpreter: testbed.Interpreter, scenario: str, count: int) -> list[Verdict]:
    """Take that many samples of one program, again as often as its record is full."""
    verdicts: list[Verdict] = []
    while sum(verdict.samples for verdict in verdicts) < count:
        with tempfile.TemporaryDirectory() as directory:
            with started(interpreter, Path(directory), scenario) as (pid, files):
                outside = Outside(pid)
                outside.find_all(len(files))
                taken = watch(outside, files, min(count, 4000))
                outside.close()
            verdicts += judge(files, taken).values()
    return verdicts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
