"""Half a minute of planned load: what a real Prometheus has stored of it, against the plan and the truth.

The truth is what the loads have measured of themselves, by their threads' own clocks, and what the
kernel counts of the threads that have stayed.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from tests import testbed
from tests.harness import until
from tests.loads import Load
from tests.prometheus import Prometheus
from tests.serving import Serving, serving

SECONDS = 27
"""What the plan takes; the rest of half a minute is for the start and the end."""
TICK = 0.01
"""In seconds: a thread's clock, as others see it, is behind by this much at most while it runs."""
CPU = "threadwatch_thread_cpu_seconds_total"
COUNTERS = '{__name__=~"threadwatch_.*_(total|count|bucket)"}'


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is over: what the loads have told, and the Prometheus that has it all."""

    told: list[dict[str, Any]]
    server: Prometheus

    def by_thread(self, metric: str, **labels: str) -> Mapping[str, float]:
        """Return the sum that Prometheus has now, by the label ``thread``."""
        chosen = ",".join(f'{key}="{value}"' for key, value in {"group": "load", **labels}.items())
        found = self.server.query(f"sum by (thread) ({metric}{{{chosen}}})")
        return {result.labels["thread"]: result.value for result in found}

    def true(self, what: str) -> dict[str, Any]:
        """Return a number that the loads have told for each name, all loads together."""
        return total(told[what] for told in self.told)

    def staying(self, count: str) -> dict[str, int]:
        """Return what the kernel counts of the threads that have stayed, by their last names."""
        return total({t["name"]: t[count]} for told in self.told for t in told["staying"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Two loads that have kept their plans, on an old and a new interpreter."""
    directory = tmp_path_factory.mktemp("accuracy")
    mark = f"load-{uuid.uuid4().hex}"
    config = directory / "threadwatch.yml"
    group = {"name": "load", "match": {"cmdline": mark}, "collect": ["context_switches"]}
    config.write_text(json.dumps({"unmatched": "ignore", "groups": [group]}))
    with (
        serving(directory, f"--config.file={config}") as daemon,
        Prometheus(directory, config=scraping(daemon)) as server,
    ):
        server.wait_for('up{job="threadwatch"} == 1')
        loads = [
            Load(testbed.require(*version), "load_plan.py", mark, str(SECONDS))
            for version in ((3, 11), (3, 14))
        ]
        try:
            for load in loads:
                load.hear("ready")
            server.wait_for(f"threadwatch_group_published_processes == {len(loads)}")
            for load in loads:
                load.go()
            until(lambda: all(load.has_spoken() for load in loads), "the end of the plan", 180)
            told = [load.hear("done") for load in loads]
            polls = float(daemon.metric("threadwatch_polls_total") or 0)
            server.wait_for(f"threadwatch_polls_total >= {polls + 3}")
            yield Run(told, server)
        finally:
            for load in loads:
                load.close()


def scraping(daemon: Serving) -> str:
    """Return the configuration of a Prometheus that scrapes the daemon every second."""
    target = daemon.url.removeprefix("http://")
    return (
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: threadwatch, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )


def total(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of mappings, key by key."""
    sums: dict[str, Any] = defaultdict(int)
    for part in parts:
        for key, value in part.items():
            sums[key] += value
    return dict(sums)


def test_cpu_time_by_name(run: Run) -> None:
    """Within 0.5 % of the plan, and of what the threads themselves have measured, renamed ones included.

    Threads that end use a little more when they have measured themselves. That is known of all of
    them together, from the kernel's clock of the process, and shared out by their number here.
    """
    found = run.by_thread(CPU)
    planned, measured, brief = (run.true(what) for what in ("planned_ns", "measured_ns", "brief"))
    ended = {**brief, "batch": len(run.told)}
    stayed_ns = sum(run.staying("cpu_ns").values())
    process_ns = sum(told["process_ns"] for told in run.told)
    main_ns = sum(told["main_ns"] for told in run.told)
    tails_ns = process_ns - main_ns - stayed_ns - sum(measured[name] for name in ended)
    tail_ns = tails_ns / sum(ended.values())
    assert tail_ns >= 0
    print(f"{tail_ns / 1e3:.1f} µs for the end of a thread")
    for name, plan_ns in planned.items():
        true_ns = measured[name] + tail_ns * ended.get(name, 0)
        print(
            f"{name:>12}: {found[name]:.6f} s, {found[name] / (true_ns / 1e9) - 1:+.3%} of what was "
            f"measured, {found[name] / (plan_ns / 1e9) - 1:+.3%} of the plan"
        )
        assert found[name] == pytest.approx(true_ns / 1e9, rel=0.005), name
        if name not in ended:
            assert found[name] == pytest.approx(plan_ns / 1e9, rel=0.005), name
    whole = sum(found.values())
    assert found.get("(unattributed)", 0) <= 0.005 * whole
    group = run.server.query('threadwatch_group_cpu_seconds_total{group="load"}')[0].value
    print(f"group {group:.6f} s, {group - process_ns / 1e9:+.6f} s of what the processes say")
    assert 0 <= group - process_ns / 1e9 <= len(run.told) * 0.005


def test_numbers_of_threads(run: Run) -> None:
    """Every start and every end is counted: ends under the right name, starts under the first seen."""
    started = dict(run.by_thread("threadwatch_threads_started_total"))
    ended = run.by_thread("threadwatch_threads_ended_total")
    living = run.by_thread("threadwatch_threads")
    loads = len(run.told)
    ends = {**run.true("brief"), "batch": loads}
    stay = total({t["name"]: 1} for told in run.told for t in told["staying"]) | {
        "MainThread": loads
    }
    assert {name: count for name, count in ended.items() if count} == ends
    assert {name: count for name, count in living.items() if count} == stay
    # one that is renamed has started once, under its first name
    first, _, last = run.told[0]["renamed"]
    starts = {first: loads, **ends, **{name: n for name, n in stay.items() if name != last}}
    assert sum(started.values()) == sum(starts.values())
    # One is seen before it can say its name if its process does not publish yet, as main threads may
    # be, or if it is born and cannot run for 0.3 s.
    unnamed = {name: count for name, count in started.items() if name not in starts and count}
    missing = {name: n - started.get(name, 0) for name, n in starts.items()}
    print(f"started under the kernel's name: {unnamed}")
    assert all(name.startswith("python") for name in unnamed), unnamed
    assert sum(missing.values()) == sum(unnamed.values())
    assert 0 <= missing.pop("MainThread") <= loads
    assert 0 <= sum(missing.values()) <= 0.002 * sum(starts.values()), missing


def test_what_the_kernel_counts_of_threads_that_stay(run: Run) -> None:
    """Page faults, switches, time slices and waiting for a CPU are the kernel's own numbers, to the last.

    No bound is needed: the threads are at rest, and a thread's whole life counts. A thread that has
    been renamed has it under all its names together. What touches memory has faulted once for each page,
    beside what its start and its Python took.
    """
    renamed = run.told[0]["renamed"]
    for metric, labels, count, unit in (
        ("threadwatch_thread_page_faults_total", {"kind": "minor"}, "minor_faults", 1),
        ("threadwatch_thread_context_switches_total", {"kind": "voluntary"}, "voluntary", 1),
        ("threadwatch_thread_context_switches_total", {"kind": "involuntary"}, "involuntary", 1),
        ("threadwatch_thread_timeslices_total", {}, "timeslices", 1),
        ("threadwatch_thread_runqueue_wait_seconds_total", {}, "runqueue_ns", 1e9),
    ):
        found = dict(run.by_thread(metric, **labels))
        found[renamed[-1]] = sum(found[name] for name in renamed)
        for name, true in run.staying(count).items():
            assert round(found[name] * unit) == true, (metric, name)
        print(f"{metric} {labels or ''}: {sum(run.staying(count).values())}, exact")
    pages, touched = (sum(told[what] for told in run.told) for what in ("pages", "touched"))
    faults = run.by_thread("threadwatch_thread_page_faults_total", kind="minor")["touch"]
    assert pages <= touched <= faults <= 1.01 * pages


def test_threads_add_up_to_their_group_at_every_scrape(run: Run) -> None:
    """The sum over threads is the group's CPU time, to 0.1 % and a tick per CPU, in every stored scrape.

    But for those of a load's start. Until a process publishes, its main thread's name is about to come for a
    third of a second, and what Python's start has used belongs to no name: some 50 ms.
    """
    threads: dict[float, float] = defaultdict(float)
    for series in run.server.samples(CPU + '{group="load"}'):
        for time, value in series.values.items():
            threads[time] += value
    (group,) = run.server.samples('threadwatch_group_cpu_seconds_total{group="load"}')
    assert group.values.keys() == threads.keys()
    processes, published = (
        run.server.samples(f'threadwatch_group_{what}{{group="load"}}')[0].values
        for what in ("processes", "published_processes")
    )
    open_s = {time: value - threads[time] for time, value in group.values.items()}
    assert min(open_s.values()) >= -1e-6
    named = [time for time in open_s if published[time] == processes[time]]
    assert len(named) > SECONDS
    print(f"{len(named)} scrapes, up to {max(open_s[time] for time in named) * 1e3:.3f} ms open")
    for time in named:
        # no more threads than CPUs run at one moment
        assert open_s[time] <= 0.001 * group.values[time] + TICK * (os.cpu_count() or 1)


def test_no_counter_has_fallen(run: Run) -> None:
    """Prometheus has seen no counter fall, of no thread, group or poll."""
    stored = run.server.samples(COUNTERS)
    assert len(stored) > 100
    assert sum(len(series.values) for series in stored) > SECONDS * 100
    fallen = [
        (series.labels, time, before, value)
        for series in stored
        for (_, before), (time, value) in pairwise(sorted(series.values.items()))
        if value < before
    ]
    assert fallen == []
    # what Prometheus itself makes of it
    for name in {series.labels["__name__"] for series in stored}:
        assert run.server.query(f"resets({name}[5m]) > 0") == []
