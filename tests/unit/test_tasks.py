"""Reading loops from memory: whatever bytes are there, a value or one named error comes out."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from tests.unit.test_names_memory import Arena, Damaged, own_python
from threadwatch.errors import Gone, ReadError, Unsupported
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.offsets import tabled
from threadwatch.names.memory.snapshot import PAGE, Snapshot
from threadwatch.names.memory.walk import Python
from threadwatch.tasks.asyncio_loop import Loop
from threadwatch.tasks.finding import Finding
from threadwatch.tasks.frames import MOST_FRAMES
from threadwatch.tasks.layout import layout_of
from threadwatch.tasks.look import Looks
from threadwatch.tasks.loops import Loops
from threadwatch.tasks.places import Places

MOST_READS = 100_000


def own() -> Python:
    """Return the Python that runs the tests."""
    memory, auxv = own_python()
    return find_python(Snapshot(memory, FIRST_LOOK), auxv, os.getpid())


def test_what_is_not_known_is_refused() -> None:
    """Versions that are not listed, and free-threaded builds, are refused with a reason."""
    python = own()
    with pytest.raises(Unsupported, match=r"3\.16"):
        layout_of(replace(python, offsets=replace(python.offsets, minor=16)))
    with pytest.raises(Unsupported, match="free-threaded"):
        layout_of(replace(python, offsets=replace(python.offsets, free_threaded=True)))


@contextmanager
def running_loop() -> Iterator[None]:
    """Run a loop of this process, in a thread."""
    ends = threading.Event()

    def tick() -> None:
        time.sleep(0.001)
        asyncio.get_running_loop().call_later(0.001, tick)

    async def work() -> None:
        tick()
        while not ends.is_set():
            time.sleep(0.002)  # noqa: ASYNC251  # the loop is to be blocked
            await asyncio.sleep(0.001)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def test_damaged_memory() -> None:
    """Whatever words of a real process's memory are changed, errors are ours, and reads are bounded."""
    with running_loop():
        for seed in range(20):
            loops = Loops(own())
            whole, _ = own_python()
            with suppress(ReadError):
                loops.find(whole, time.monotonic_ns())
            memory = Damaged(seed, 0.05)
            for _ in range(20):
                try:
                    for sample in loops.sample(memory, time.monotonic_ns(), functions=True):
                        assert sample.holder is None or sample.holder.encode()
                        assert sample.age_ns is None or sample.age_ns >= 0
                    loops.find(memory, time.monotonic_ns())
                    loops.census(memory, time.monotonic_ns(), 100)
                except ReadError as error:
                    assert error.source == "tasks"  # noqa: PT017  # other errors are not expected
                except Gone:
                    pass
            assert memory.reads < MOST_READS


@pytest.mark.parametrize("minor", range(9, 16))
def test_memory_that_leads_in_circles(minor: int) -> None:
    """Frames, types and dicts that lead to each other for ever give an answer after few reads."""
    python = own()
    offsets = tabled(min(minor, 12))
    for seed in range(30):
        arena, chosen = Arena(seed), random.Random(seed)

        def place(arena: Arena = arena, chosen: random.Random = chosen) -> int:
            return chosen.randrange(arena.base, arena.base + 8 * PAGE, 8)

        hostile = replace(
            python,
            offsets=replace(offsets, minor=minor),
            runtime=place(),
            dict_type=place(),
            str_type=place(),
        )
        loops = Loops(hostile)
        with suppress(ReadError):
            loops.find(arena, 1)
        a, b, c, d, e, f, g, h = (place() for _ in range(8))
        places = Places(a, b, c, d, e, f, g, "/usr/lib/", h, (), 9, 10, 11, 12)
        shared = loops._shared
        parts = hostile, shared.objects, shared.frames, places
        looks, finding = Looks(shared, places), Finding(*parts)
        with suppress(ReadError):
            finding.update(arena, looks, 1)
        for now_ns in range(20):
            state = place()
            loop = Loop(state, _word(arena, state + offsets.ident), 0, 1, place(), place())
            sample = looks.look(arena, loop, now_ns, functions=True)
            assert sample is None or sample.tid == 1
        assert arena.reads < 20 * 3 * (4 * MOST_FRAMES + 100)


def _word(arena: Arena, address: int) -> int:
    try:
        return int.from_bytes(arena.read(address, 8), "little")
    except ReadError:
        return 0
