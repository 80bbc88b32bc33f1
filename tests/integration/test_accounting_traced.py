"""CPU time of processes that a tracer stops and continues: debuggers, strace."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests import testbed
from tests.books import MS
from tests.loads import Load, Watch, most_beyond_ns
from tests.tracer import traced
from threadwatch.model.keys import UNATTRIBUTED

STOPS = 60
"""How often the tracer stops the threads; each tenth time what stands still is looked at for longer."""


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Yield a poller that ends with its test."""
    watch = Watch()
    yield watch
    watch.close()


def test_a_traced_process(watch: Watch) -> None:
    """A tracer that stops and continues threads while they run, start and end changes no sum and no count.

    A traced thread that has ended is there, as a zombie, until the tracer has looked.
    """
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    load = Load(testbed.require(3, 11), "load_requests.py", watch.mark, "0", "300")
    try:
        with traced(load.pid) as tracer:
            watch.meet(load)
            for stop in range(1, STOPS + 1):
                assert not load.has_spoken(chance.random() / 20)
                watch.poll()
                tracer.stop()
                watch.poll()
                if stop % 10 == 0:
                    watch.poll_until(
                        lambda: states(watch, load) == {"stopped"}, "all to be stopped"
                    )
                    before_ns = watch.group.cpu_ns
                    watch.settle()
                    # nothing but what they had used while they were being stopped
                    assert watch.group.cpu_ns - before_ns < 50 * MS
                tracer.go_on()
            load.go()
            served = load.hear("served")
            watch.settle()
            assert states(watch, load) <= {"sleeping", "pipe"}
        assert 0 <= watch.group.cpu_ns - served["process_ns"] < 10 * MS
        assert sum(watch.cpu.values()) == watch.group.cpu_ns
        for name, count in served["threads"].items():
            assert watch.counts(name) == (count, 0)
            beyond_ns = watch.cpu[name] - served["cpu_ns"][name]
            assert 0 <= beyond_ns <= most_beyond_ns(served) * count, (name, beyond_ns / count)
        assert watch.started == 1 + sum(served["threads"].values())
        assert watch.cpu.get(UNATTRIBUTED, 0) <= 0.01 * watch.group.cpu_ns
        print(f"{sum(served['threads'].values())} threads; {dict(watch.cpu)}")
        load.end()
    finally:
        load.close()


def states(watch: Watch, load: Load) -> set[str]:
    """Return the states of the load's threads, as the last poll shows them."""
    process = watch.process(load.pid)
    assert process is not None
    return {thread.state for thread in process.threads}
