"""What is read of hubs of gevent is what their greenlets have written down themselves, or not known."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.harness import until
from tests.loops_outside import (
    GEVENTS,
    LASTS_S,
    Outside,
    names_of,
    running,
    started,
    watch_enough,
    with_ring,
)
from tests.loops_truth import check_functions
from tests.testbed import Interpreter, require
from threadwatch.model.loops import UNKNOWN

RELEASES = dict(GEVENTS)


def test_greenlets(interpreter: Interpreter, tmp_path: Path) -> None:
    """Each sample has the greenlet or callback that held the loop, and the application's function in it."""
    with started(interpreter, tmp_path, "mixed", RELEASES[str(interpreter)]) as (pid, files):
        outside = Outside(pid)
        outside.find_all(1)
        labels = {"heavy", "named-é", "(callback) tick"}
        names = names_of(interpreter, RELEASES[str(interpreter)])
        taken = watch_enough(outside, files, labels, names, functions=True)
        outside.close()
    samples = [sample for _, _, sample in taken[pid]]
    assert {sample.kind for sample in samples} == {"gevent"}
    known = [sample for sample in samples if sample.holder != UNKNOWN]
    assert all(sample.iteration is not None and sample.age_ns is not None for sample in known)
    check_functions(files[pid], taken[pid], "gevent_loops", interpreter.version)


@pytest.mark.parametrize("version", [(3, 10), (3, 13)], ids=str)
def test_hubs_of_two_threads(version: tuple[int, int], tmp_path: Path) -> None:
    """Each greenlet belongs to the thread that runs it."""
    interpreter = require(*version)
    with started(interpreter, tmp_path, "threads", RELEASES[str(interpreter)]) as (pid, files):
        outside = Outside(pid)
        outside.find_all(2)
        watch_enough(outside, files, {"heavy"}, names_of(interpreter, RELEASES[str(interpreter)]))
        outside.close()


def test_a_hub_at_rest(tmp_path: Path) -> None:
    """A hub that waits for events has nothing that holds its loop."""
    interpreter = require(3, 14)
    with started(interpreter, tmp_path, "idle", RELEASES[str(interpreter)]) as (pid, _):
        outside = Outside(pid)
        outside.find_all(1)

        def at_rest() -> bool:
            (sample,) = outside.sample(time.monotonic_ns())
            return (sample.tid, sample.kind, sample.holder) == (pid, "gevent", None)

        until(at_rest, "it waits for events")
        assert outside.loops.census(outside.memory, time.monotonic_ns(), 5_000) == []
        outside.close()


@pytest.mark.parametrize("loop", ["libuv-cffi", "libev-cffi"])
@pytest.mark.parametrize("version", [(3, 10), (3, 14)], ids=str)
def test_loops_that_are_written_in_python(
    version: tuple[int, int], loop: str, tmp_path: Path
) -> None:
    """On a loop by cffi, what has it is known as on one in C, but no lag; nothing has one that waits."""
    release = RELEASES[".".join(map(str, version))]
    interpreter, extra = with_ring(require(*version), release, tmp_path, "cffi==2.0.0")
    command, program = (*interpreter.command, "-W", "ignore"), "gevent_loops.py"
    extra["GEVENT_LOOP"] = loop
    with running(command, program, tmp_path, "mixed", str(LASTS_S), **extra) as (pid, files):
        outside = Outside(pid)
        outside.find_all(1)
        labels = {"heavy", "named-é", "(callback) tick"}
        taken = watch_enough(outside, files, labels, names_of(interpreter, release), functions=True)
        outside.close()
    assert {(sample.age_ns, sample.ready, sample.iteration) for _, _, sample in taken[pid]} == {
        (None, None, None)
    }
    check_functions(files[pid], taken[pid], "gevent_loops", interpreter.version)
    with running(command, program, tmp_path, "idle", str(LASTS_S), **extra) as (pid, _):
        outside = Outside(pid)
        outside.find_all(1)
        for _ in range(200):
            (sample,) = outside.sample(time.monotonic_ns())
            assert sample.holder is None
        outside.close()
