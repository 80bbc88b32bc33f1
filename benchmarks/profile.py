"""Where the time of a poll goes: the poller alone, in this process, under cProfile."""

from __future__ import annotations

import cProfile
import gc
import pstats
import time
from pathlib import Path

from benchmarks.estimate import estimate
from benchmarks.report import Result, Table
from benchmarks.running import Load, configuration
from benchmarks.scenarios import SCENARIOS, Scenario
from threadwatch.config.parse import load_config
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS

WHAT = """\
`Poller.poll()` called in the benchmark's own process, twice a second, by the CPU time of its
thread: first as it is, then under cProfile, which makes all Python code look dearer than system
calls. No daemon, no exporter, no web server; nothing but the load is watched."""

_WARM_UP = 30
_POLLS = 10
_LINES = 14


def run() -> Result:
    """Profile the quick scenarios' polls."""
    tables, raw = [], {}
    for scenario in SCENARIOS:
        if scenario.quick:
            table, times = _profile(scenario)
            tables.append(table)
            raw[scenario.name] = times
    return Result("profile", WHAT, tuple(tables), raw)


def _profile(scenario: Scenario) -> tuple[Table, list[float]]:
    with Load(scenario.load, published=scenario.published), configuration(scenario.per) as path:
        poller = Poller(ProcFS(), load_config(path), report=lambda _error: None)
        for _ in range(_WARM_UP):
            poller.poll(details=False)
            time.sleep(0.1)
        times = [_timed(poller) for _ in range(_POLLS)]
        profiler = cProfile.Profile(time.thread_time_ns, 1e-9)
        for _ in range(_POLLS):
            profiler.enable()
            poller.poll(details=False)
            profiler.disable()
            time.sleep(0.5)
        poller.close()
    gc.collect()
    return _table(f"{scenario.name}: {estimate(times).text()} ms per poll", profiler), times


def _timed(poller: Poller) -> float:
    time.sleep(0.5)
    began = time.thread_time_ns()
    poller.poll(details=False)
    return (time.thread_time_ns() - began) / 1e6


def _table(title: str, profiler: cProfile.Profile) -> Table:
    found = pstats.Stats(profiler).get_stats_profile().func_profiles
    ordered = sorted(found.items(), key=lambda item: -item[1].tottime)[:_LINES]
    rows = [
        (
            f"{Path(one.file_name).name}:{one.line_number} {name}",
            f"{float(str(one.ncalls).partition('/')[0]) / _POLLS:,.1f}",
            f"{1000 * one.tottime / _POLLS:,.3f}",
            f"{1000 * one.cumtime / _POLLS:,.3f}",
        )
        for name, one in ordered
    ]
    return Table(
        title, ("function", "calls per poll", "own ms per poll", "with callees"), tuple(rows)
    )
