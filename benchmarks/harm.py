"""What those who look from outside do to the throughput of a program, and what CPU time they use."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from benchmarks.estimate import Estimate, estimate, ratios
from benchmarks.observers import (
    PROFILER,
    Attach,
    Service,
    attach_profiler,
    attach_py_spy,
    new_mark,
    own_interpreter,
    stopped,
)
from benchmarks.report import Result, Table
from benchmarks.running import BenchmarkError, Daemon, process_clock_ns, watching
from tests import testbed
from tests.testbed import Interpreter

WHAT = """\
A program ([benchmarks/service.py](../benchmarks/service.py)) counts what it gets done while it is
watched by one observer after the other, and by none: blocks of about a second, in each round in another
random order. The throughput under an observer is divided by that of the same round's block without
one; the table has the median of these ratios with its 95 % confidence interval. The program publishes
all the time.

threadwatch is a daemon that polls every second and samples at the rate that is given; when it is not
its turn, it is stopped (SIGSTOP). py-spy (`record --gil --idle`) and CPython's own profiler
(`profiling.sampling attach --mode gil`), at 100 samples per second, are started for their blocks, and
count from when they sample. Blocking: all threads of the program are stopped for each sample; that is
py-spy's default, and not that of the profiler. Both tools say more than which thread holds the GIL:
they also say in which function it is.

The observer's CPU is its process clock, all threads and system calls, while it watches (and what it
makes others do, such as stopping the program, is not in it).

*compute*: four threads compute in Python, and twenty wait for a descriptor for 2 to 10 ms, again and
again; how often these get on hangs on when they get the GIL. *requests*: four clients put requests into a
queue, for eight workers that compute for some tenths of a millisecond."""

NONE = "none"
_PEERS_EVERY = 3
"""Rounds of which one has the peers in it: what they do is larger, and seen sooner."""
_KNOWN_IN = 5
"""Seconds in which a daemon finds a new process, and learns which of its threads run."""
_SETTLE = 0.25
"""Seconds that pass between the observer's beginning and the block's."""

Watch = Callable[[int], AbstractContextManager[int | None]]
"""Watches the process with that PID; gives the observer's own."""


@dataclass(frozen=True, slots=True)
class Block:
    """What a program got done in some seconds."""

    per_second: Mapping[str, float]
    """Units of work per second, by kind."""
    per_cpu_second: Mapping[str, float]
    observer: float
    """CPU seconds per second that the observer used."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure."""

    rounds: int
    seconds: float
    """Of a block."""


QUICK = Plan(30, 0.8)
FULL = Plan(90, 1.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """Blocks of one program on one interpreter: by observer and round."""

    blocks: dict[str, dict[int, Block]] = field(default_factory=dict)
    samples_per_second: dict[str, float] = field(default_factory=dict)
    """That threadwatch took in its blocks, by its own count."""


def run(*, full: bool) -> Result:
    """Both programs on the daemon's own CPython, and one on the CPython that has a profiler."""
    missing = []
    try:
        testbed.enter()
    except testbed.TestbedError as error:
        missing.append(str(error))
    interpreters = testbed.interpreters()
    own = own_interpreter(interpreters)
    runs = [(own, "compute"), (own, "requests")]
    runs += [(one, "compute") for one in interpreters if one.version == PROFILER]
    if not any(one.version == PROFILER for one, _ in runs):
        missing.append(f"CPython's profiler: {testbed.how_to_get(PROFILER)}")
    measured = {}
    for interpreter, program in runs:
        found, absent = measure(interpreter, program, FULL if full else QUICK)
        measured[interpreter, program] = found
        missing += absent
    raw = {f"{program}, {one.release}": asdict(m) for (one, program), m in measured.items()}
    tables = [_table(one, program, found) for (one, program), found in measured.items()]
    return Result("harm", WHAT, tuple(tables), raw, tuple(dict.fromkeys(missing)))


def measure(interpreter: Interpreter, program: str, plan: Plan) -> tuple[Measured, list[str]]:
    """Watch one program in turns; and why there are no peers, where there are none."""
    measured, missing, mark = Measured(), [], new_mark()
    with ExitStack() as stack:
        ours = {f"threadwatch, {rate} Hz": _daemon(stack, rate, mark) for rate in (10, 100)}
        service = stack.enter_context(Service(interpreter, program, mark))
        time.sleep(_KNOWN_IN)
        for name, daemon in ours.items():
            measured.samples_per_second[name] = -_samples(daemon)
        turns = {name: stack.enter_context(stopped(daemon)) for name, daemon in ours.items()}
        watches: dict[str, Watch] = {NONE: lambda _: contextlib.nullcontext()}
        for name, daemon in ours.items():
            watches[name] = _own(daemon, turns[name])
        try:
            peers = _peers(interpreter)
        except BenchmarkError as error:
            peers = {}
            missing.append(str(error))
        spent = dict.fromkeys(ours, 0.0)
        for number in range(plan.rounds):
            now = {**watches, **(peers if number % _PEERS_EVERY == 0 else {})}
            for name in random.sample(list(now), len(now)):
                began = time.monotonic()
                block = _block(service, now[name], plan.seconds)
                measured.blocks.setdefault(name, {})[number] = block
                if name in spent:
                    spent[name] += time.monotonic() - began
        for name, daemon in ours.items():
            with turns[name]():
                total = measured.samples_per_second[name] + _samples(daemon)
            measured.samples_per_second[name] = total / spent[name]
    return measured, missing


def _daemon(stack: ExitStack, rate: int, mark: str) -> Daemon:
    return stack.enter_context(watching(rate=rate, load=mark, itself=False))


def _samples(daemon: Daemon) -> float:
    return daemon.metrics()["threadwatch_wait_samples_total"]


def _own(daemon: Daemon, turn: Callable[[], AbstractContextManager[None]]) -> Watch:
    @contextmanager
    def watch(_pid: int) -> Iterator[int]:
        with turn():
            yield daemon.pid

    return watch


def _peers(interpreter: Interpreter) -> dict[str, Watch]:
    """Return the one that fits this interpreter, in both of its ways."""
    attach: Callable[..., Attach] = partial(attach_py_spy, 100)
    name = "py-spy"
    if interpreter.version == PROFILER:
        attach, name = partial(attach_profiler, interpreter, 100), "profiling.sampling"
    return {
        f"{name}, {'blocking' if blocking else 'not blocking'}, 100 Hz": _attached(
            attach(blocking=blocking)
        )
        for blocking in (False, True)
    }


def _attached(attach: Attach) -> Watch:
    @contextmanager
    def watch(pid: int) -> Iterator[int]:
        with attach(pid) as attached:
            yield attached.pid

    return watch


def _block(service: Service, watch: Watch, seconds: float) -> Block:
    with watch(service.pid) as observer:
        time.sleep(_SETTLE)
        before, clock = service.ask(), process_clock_ns(observer) if observer else 0
        time.sleep(seconds)
        after, used = service.ask(), process_clock_ns(observer) - clock if observer else 0
    return _between(before, after, used)


def _between(before: Mapping[str, Any], after: Mapping[str, Any], used_ns: int) -> Block:
    elapsed, cpu = ((after[key] - before[key]) / 1e9 for key in ("time_ns", "cpu_ns"))
    done = {kind: after["work"][kind] - before["work"][kind] for kind in after["work"]}
    return Block(
        per_second={kind: units / elapsed for kind, units in done.items()},
        per_cpu_second={kind: units / cpu for kind, units in done.items()},
        observer=used_ns / 1e9 / elapsed,
    )


def throughput(measured: Measured, observer: str, kind: str, *, by_cpu: bool = False) -> Estimate:
    """Work under an observer as a ratio to that without, of pairs of blocks of the same round."""
    plain = measured.blocks[NONE]
    pairs = [
        (block.per_cpu_second, plain[number].per_cpu_second)
        if by_cpu
        else (block.per_second, plain[number].per_second)
        for number, block in measured.blocks[observer].items()
    ]
    return estimate(ratios([one[kind] for one, _ in pairs], [other[kind] for _, other in pairs]))


def _table(interpreter: Interpreter, program: str, measured: Measured) -> Table:
    first, *_ = measured.blocks[NONE].values()
    kinds = list(first.per_second)
    ours = estimate([b.observer for b in measured.blocks["threadwatch, 10 Hz"].values()])
    rows = []
    for name in sorted(measured.blocks, key=lambda name: (name != NONE, len(name))):
        blocks = measured.blocks[name].values()
        if name == NONE:
            rates = [f"{estimate([b.per_second[k] for b in blocks]).median:,.0f}/s" for k in kinds]
            rows.append((name, str(len(blocks)), *rates, "", "", ""))
            continue
        used = estimate([block.observer for block in blocks])
        rows.append(
            (
                name,
                str(len(blocks)),
                *(throughput(measured, name, kind).percent() for kind in kinds),
                throughput(measured, name, kinds[0], by_cpu=True).percent(),
                used.scaled(1e3).text(1),
                f"{used.median / ours.median:,.1f}",
            )
        )
    counted = ", ".join(f"{n} {rate:.0f}" for n, rate in measured.samples_per_second.items())
    return Table(
        f"{program}, CPython {interpreter.release}",
        (
            "observer",
            "blocks",
            *kinds,
            f"{kinds[0]} per second of its CPU",
            "observer's CPU, ms per s",
            "times threadwatch at 10 Hz",
        ),
        tuple(rows),
        (f"Samples per second that threadwatch took in its blocks: {counted}.",),
    )
