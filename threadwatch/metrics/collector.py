"""Turns a View into metric families of prometheus_client. Pure, apart from looking up the version."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from platform import python_version
from typing import Final

from prometheus_client.core import Metric

import threadwatch
from threadwatch.metrics import families
from threadwatch.metrics.families import Family
from threadwatch.metrics.loops import loops
from threadwatch.metrics.samples import Labels, histogram, labels_of, plain, seconds
from threadwatch.model.keys import OTHER, SOURCES, Place
from threadwatch.model.view import POLL_BUCKETS, SeriesTotals, View

_MOST_PLACES: Final = 200
"""Places of one group that have a series: users choose the names of units."""


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """The content of ``threadwatch_build_info``; the fields are its labels."""

    version: str
    revision: str
    """The commit that was installed, or empty: see :func:`installed_revision`."""
    pythonversion: str
    implementation: str

    @staticmethod
    @cache
    def current() -> BuildInfo:
        """Return the build info of the running threadwatch."""
        return BuildInfo(
            threadwatch.__version__, installed_revision(), python_version(), sys.implementation.name
        )


def installed_revision() -> str:
    """Return the commit that the installer recorded (PEP 610), or else the environment's, or nothing.

    The image has ``THREADWATCH_REVISION``, if its builder gave it.
    """
    try:
        recorded = distribution("prometheus-threadwatch").read_text("direct_url.json")
        commit = json.loads(recorded or "{}")["vcs_info"]["commit_id"]
    except (PackageNotFoundError, ValueError, KeyError):
        return os.environ.get("THREADWATCH_REVISION", "")
    return str(commit)


def collect(view: View | None, build: BuildInfo | None = None) -> Iterator[Metric]:
    """Yield the metric families of a view, new at each call.

    Without a view, only those are yielded that are known before the first poll. A series whose
    value could not be read is absent, and so is a family without series.
    """
    known = (plain(families.BUILD_INFO, [(asdict(build or BuildInfo.current()), 1)]),)
    found = (
        chain(_threads(view), loops(view), _groups(view), _info(view), known, _daemon(view))
        if view
        else known
    )
    return (metric for metric in found if metric.samples)


_Series = list[tuple[Labels, SeriesTotals]]


def _threads(view: View) -> Iterator[Metric]:
    """Yield the families of what is counted per thread name."""
    now = view.monotonic_ns
    series = [
        (labels_of(group.name, key), totals)
        for group in view.groups
        for key, totals in group.series.items()
    ]
    yield _split(
        families.THREAD_CPU,
        series,
        lambda t: (("user", seconds(t.user_ns)), ("system", seconds(t.system_ns))),
    )
    yield _each(families.THREAD_RUNQUEUE, series, lambda t: seconds(t.runqueue_ns))
    yield _each(families.THREAD_TIMESLICES, series, lambda t: t.timeslices)
    yield _split(
        families.THREAD_SWITCHES,
        series,
        lambda t: (("voluntary", t.voluntary_switches), ("involuntary", t.involuntary_switches)),
    )
    yield _split(
        families.THREAD_FAULTS,
        series,
        lambda t: (("minor", t.minor_faults), ("major", t.major_faults)),
    )
    yield _split(
        families.THREAD_IO, series, lambda t: (("read", t.read_bytes), ("write", t.write_bytes))
    )
    yield _split(
        families.THREAD_STATE,
        series,
        lambda t: [(state, seconds(time.at(now))) for state, time in t.states.items()],
    )
    yield _split(
        families.THREADS,
        series,
        lambda t: list(t.now.items()),
    )
    yield _each(families.GIL_HELD, series, lambda t: seconds(t.gil_held_ns))
    yield _each(families.GIL_WAIT, series, lambda t: seconds(_gil_wait_ns(t, now)))
    yield _each(families.THREADS_STARTED, series, lambda t: t.started)
    yield _each(families.THREADS_ENDED, series, lambda t: t.ended)


def _groups(view: View) -> Iterator[Metric]:
    groups = [({"group": group.name}, group) for group in view.groups]
    yield plain(families.GROUP_CPU, [(labels, seconds(group.cpu_ns)) for labels, group in groups])
    yield plain(
        families.GROUP_ENDED_CHILDREN,
        [(labels, seconds(group.ended_children_ns)) for labels, group in groups],
    )
    yield plain(
        families.GROUP_THROTTLED,
        [(labels, seconds(group.throttled_ns)) for labels, group in groups],
    )
    yield plain(
        families.GROUP_INFO,
        [
            (
                {
                    **labels,
                    "implementation": python.implementation,
                    "version": ".".join(map(str, python.version)),
                    "build": "free-threaded" if python.free_threaded else "default",
                    "gil": "on" if python.gil else "off",
                },
                1,
            )
            for labels, group in groups
            for python in sorted(group.pythons)
        ],
    )
    yield plain(
        families.GROUP_CONTAINER_INFO,
        [
            (
                {
                    **labels,
                    "container_id": place.container,
                    "pod_uid": place.pod_uid,
                    "unit": place.unit,
                },
                1,
            )
            for labels, group in groups
            for place in _some(group.places)
        ],
    )
    yield plain(families.GROUP_PROCESSES, [(labels, group.processes) for labels, group in groups])
    yield plain(
        families.GROUP_SOURCES,
        [
            ({**labels, "source": source}, group.names_from.get(source, 0))
            for labels, group in groups
            for source in SOURCES
        ],
    )
    yield plain(families.GROUP_PUBLISHED, [(labels, group.published) for labels, group in groups])
    yield plain(families.SERIES_DROPPED, [(labels, group.dropped) for labels, group in groups])
    yield plain(
        families.FOLDABLE_NAMES, [(labels, group.foldable_names) for labels, group in groups]
    )


def _info(view: View) -> Iterator[Metric]:
    if not view.thread_info:
        return
    yield plain(
        families.THREAD_INFO,
        [
            (
                {
                    "group": process.group,
                    "thread": thread.thread,
                    "pid": str(process.key.pid),
                    "tid": str(thread.tid),
                    "name": thread.name,
                    "comm": thread.comm,
                    "source": thread.source,
                },
                1,
            )
            for process in view.processes
            for thread in process.threads
        ],
    )


def _daemon(view: View) -> Iterator[Metric]:
    """Yield the families about the daemon itself."""
    stats = view.stats
    yield plain(families.POLLS, [({}, stats.polls)])
    yield plain(families.POLLS_SKIPPED, [({}, stats.polls_skipped)])
    yield plain(families.POLL_CPU, [({}, seconds(stats.poll_cpu_ns))])
    yield plain(families.SAMPLES, [({}, stats.samples)])
    yield plain(families.SAMPLE_CPU, [({}, seconds(stats.sample_cpu_ns))])
    yield histogram(
        families.POLL_DURATION,
        POLL_BUCKETS,
        [({}, stats.poll_durations, stats.poll_duration_ns)],
    )
    yield plain(families.LAST_POLL, [({}, view.time)])
    yield plain(
        families.READ_ERRORS,
        [
            ({"source": source, "reason": reason}, count)
            for (source, reason), count in sorted(stats.read_errors.items())
        ],
    )
    yield plain(
        families.HANDED_OVER,
        [({"result": result}, count) for result, count in (stats.handed_over or {}).items()],
    )
    yield plain(families.RELOAD_SUCCESSFUL, [({}, int(stats.reload_successful))])
    yield plain(families.RELOAD_TIME, [({}, stats.reload_success_time)])


def _some(places: Collection[Place]) -> list[Place]:
    """Return the places in order; beyond a number, one that stands for the rest."""
    ordered = sorted(places)
    if len(ordered) > _MOST_PLACES:
        ordered[_MOST_PLACES:] = [Place(OTHER, OTHER, OTHER)]
    return ordered


def _gil_wait_ns(totals: SeriesTotals, now_ns: int) -> int | None:
    """Return the time in the state ``gil``; None where the GIL cannot be seen."""
    if totals.gil_held_ns is None:
        return None
    time = totals.states.get("gil")
    return 0 if time is None else time.at(now_ns)


def _each(family: Family, series: _Series, value: Callable[[SeriesTotals], float | None]) -> Metric:
    """Return a family of one value per thread series."""
    return plain(family, ((labels, value(totals)) for labels, totals in series))


def _split(
    family: Family,
    series: _Series,
    values: Callable[[SeriesTotals], Iterable[tuple[str, float | None]]],
) -> Metric:
    """Return a family of several values per thread series, distinguished by the family's last label."""
    part = family.labels[-1]
    return plain(
        family,
        (
            ({**labels, part: which}, value)
            for labels, totals in series
            for which, value in values(totals)
        ),
    )
