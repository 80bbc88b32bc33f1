"""A thread of the kernel has one life, whatever Python, or a publisher that lies, makes of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import natives, testbed
from tests.books import MS, threads_ns
from tests.loads import Load, Watch
from threadwatch.model.keys import UNATTRIBUTED


@pytest.fixture
def loads() -> Iterator[list[tuple[Watch, Load]]]:
    """Pollers and what they poll, side by side; they end with their test."""
    loads: list[tuple[Watch, Load]] = []
    yield loads
    for watch, load in loads:
        watch.close()
        load.close()


def poll_all(loads: list[tuple[Watch, Load]], chance: random.Random) -> None:
    """Poll each at random times until it says something; its group never has more than the kernel."""
    talking = list(loads)
    while talking:
        watch, load = chance.choice(talking)
        watch.poll()
        assert watch.group.cpu_ns <= load.clock_ns()
        if load.has_spoken(chance.random() / 20):
            talking.remove((watch, load))


def test_visitors(loads: list[tuple[Watch, Load]], tmp_path: Path) -> None:
    """A thread of C that calls Python and logs is charged once, under one name, and started once."""
    library = natives.visitors(tmp_path)
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for interpreter in testbed.interpreters():
        watch = Watch()
        loads.append((watch, Load(interpreter, "load_visits.py", watch.mark, str(library))))
    for watch, load in loads:
        watch.meet(load)
    poll_all(loads, chance)
    for watch, load in loads:
        load.hear("steady")
        watch.settle()
        assert watch.group.cpu_ns == threads_ns(watch.group) == load.clock_ns()
        # the thread was seen before it had called, under its comm
        assert watch.started == 2, (str(load), watch.cpu)
        named = {name for name in watch.cpu if name not in {"MainThread", UNATTRIBUTED}}
        assert "Dummy-N" in named, (str(load), watch.cpu)
        assert len(named) <= 2, (str(load), watch.cpu)
        unattributed_ns = watch.cpu.get(UNATTRIBUTED, 0)
        assert watch.cpu["Dummy-N"] + unattributed_ns >= 0.95 * 60 * 20 * MS, (str(load), watch.cpu)
        if load.interpreter.version >= (3, 13):
            # before, no end is published of it: what it used since its last poll has no name
            assert unattributed_ns <= 0.01 * watch.group.cpu_ns, (str(load), watch.cpu)
        load.go()
    poll_all(loads, chance)
    for watch, load in loads:
        load.hear("brief")
        watch.settle()
        assert watch.group.cpu_ns == threads_ns(watch.group) == load.clock_ns()
        if load.interpreter.version >= (3, 13):
            # 20 that made 80 calls; before 3.13 one can hide behind another that Python still knows
            assert watch.started == 2 + 20, (str(load), watch.cpu)
        load.go()
    poll_all(loads, chance)
    for watch, load in loads:
        said = load.hear("staying")
        watch.settle()
        assert said["process_ns"] <= watch.group.cpu_ns == load.clock_ns()
        # a thread without a name is given some time to publish one
        watch.poll_until(partial(is_all_charged, watch), "the last thread to be charged")
        process = watch.process(load.pid)
        assert process is not None
        assert len(process.threads) == 2
        print(load, said["names"], "names,", watch.started, "threads started;", watch.cpu)


def test_a_liar_gets_no_more_than_the_kernel_has_counted(
    loads: list[tuple[Watch, Load]],
) -> None:
    """Whatever ends, births and CPU times a process publishes, its group has what its clock has."""
    chance = random.Random()
    for version in ((3, 9), (3, 12), (3, 15)):
        watch = Watch()
        load = Load(testbed.require(*version), "load_liar.py", watch.mark, "3")
        loads.append((watch, load))
        watch.meet(load)
    poll_all(loads, chance)
    for watch, load in loads:
        load.hear("done")
        watch.settle()
        assert watch.group.cpu_ns == threads_ns(watch.group) == load.clock_ns()
        load.end()
        watch.poll_until(partial(has_ended, watch), "the end of the process")


def is_all_charged(watch: Watch) -> bool:
    """Return whether the threads have all that the group has."""
    return threads_ns(watch.group) == watch.group.cpu_ns


def has_ended(watch: Watch) -> bool:
    """Return whether the group has no process any more."""
    return not watch.group.processes
