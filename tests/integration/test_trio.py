"""What is read of loops of trio is what they have written down themselves, or not known."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.harness import until
from tests.loops_outside import TRIOS, Outside, names_of, started, watch_enough
from tests.loops_truth import check_functions
from tests.testbed import Interpreter, require
from threadwatch.errors import ReadError
from threadwatch.model.loops import TaskCount

RELEASES = dict(TRIOS)


def test_tasks(interpreter: Interpreter, tmp_path: Path) -> None:
    """Each sample has the task that held the loop, its iteration's age, and the application's function."""
    release = RELEASES[str(interpreter)]
    names = names_of(interpreter, release)
    with started(interpreter, tmp_path, "mixed", release) as (pid, files):
        outside = Outside(pid)
        outside.find_all(1)
        labels = {"__main__.heavy", "named-é"}
        taken = watch_enough(outside, files, labels, names, functions=True)
        outside.close()
    samples = [sample for _, _, sample in taken[pid]]
    assert {sample.kind for sample in samples} == {"trio"}
    assert sum(sample.age_ns is None for sample in samples) <= len(samples) // 10
    check_functions(files[pid], taken[pid], "trio_loops", interpreter.version)


@pytest.mark.parametrize(
    ("version", "scenario", "count"),
    [((3, 10), "again", 1), ((3, 14), "again", 1), ((3, 12), "threads", 3)],
    ids=str,
)
def test_loops_of_threads_and_runs(
    version: tuple[int, int], scenario: str, count: int, tmp_path: Path
) -> None:
    """Each loop belongs to the thread that runs it, and none is seen where none runs."""
    interpreter = require(*version)
    release = RELEASES[str(interpreter)]
    with started(interpreter, tmp_path, scenario, release) as (pid, files):
        outside = Outside(pid)
        outside.find_all(count)
        label = "__main__.later" if scenario == "again" else "__main__.heavy"
        watch_enough(outside, files, {label}, names_of(interpreter, release))
        outside.close()


def test_all_tasks_are_counted(tmp_path: Path) -> None:
    """A loop at rest waits for events, and each of its 2,005 tasks is counted under its name."""
    interpreter = require(3, 13)
    with started(interpreter, tmp_path, "many", RELEASES[str(interpreter)]) as (pid, _):
        outside = Outside(pid)
        outside.find_all(1)
        expected = {
            "__main__.many": TaskCount(0, 1),
            "named-é": TaskCount(0, 2),
            "trio.sleep_forever": TaskCount(0, 2000),
        }

        def at_rest() -> bool:
            (sample,) = outside.sample(time.monotonic_ns())
            found = sample.tid, sample.kind, sample.holder, sample.age_ns
            if found != (pid, "trio", None, 0):
                return False  # what changes meanwhile cannot be counted
            (census,) = outside.loops.census(outside.memory, time.monotonic_ns(), 5_000)
            own = {name: n for name, n in census.counts.items() if not name.startswith("<")}
            return own == expected

        until(at_rest, "it waits, and its tasks are counted")
        with pytest.raises(ReadError, match="tasks: limit"):
            outside.loops.census(outside.memory, time.monotonic_ns(), 1_000)
        outside.close()
