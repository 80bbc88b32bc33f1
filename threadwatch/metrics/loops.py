"""Turns what a View has of loops and their tasks into metric families. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric

from threadwatch.metrics import families
from threadwatch.metrics.families import Family
from threadwatch.metrics.samples import Labels, histogram, labels_of, plain, seconds
from threadwatch.model.loops import LAG_BUCKETS, LoopTotals, TaskTotals
from threadwatch.model.view import View


def loops(view: View) -> Iterator[Metric]:
    """Yield the families of what is known of loops and tasks."""
    known = [
        (labels_of(group.name, key), totals.loop)
        for group in view.groups
        for key, totals in group.series.items()
        if totals.loop is not None
    ]
    yield _by_task(families.TASK_CPU, known, lambda task: seconds(task.cpu_ns))
    yield _by_task(families.LOOP_HELD, known, lambda task: seconds(task.held_ns))
    timed = [(labels, loop) for labels, loop in known if any(loop.lags)]
    yield _by_task(families.LOOP_BLOCKED, timed, lambda task: seconds(task.blocked_ns))
    yield histogram(
        families.LOOP_LAG,
        LAG_BUCKETS,
        ((labels, loop.lags, loop.lag_sum_ns) for labels, loop in timed),
    )
    yield plain(
        families.LOOP_LAG_MAX,
        ((labels, seconds(loop.lag_max_ns(view.monotonic_ns))) for labels, loop in known),
    )
    yield plain(families.LOOP_READY, ((labels, loop.ready) for labels, loop in known))
    yield plain(
        families.TASKS,
        (
            ({**labels, "task": name, "state": state}, number)
            for labels, loop in known
            for name, task in loop.tasks.items()
            if task.alive is not None
            for state, number in zip(task.alive._fields, task.alive, strict=True)
        ),
    )
    yield plain(
        families.LOOP_INFO,
        (({**labels, "kind": kind}, 1) for labels, loop in known for kind in loop.kinds),
    )


def _by_task(
    family: Family,
    known: list[tuple[Labels, LoopTotals]],
    value: Callable[[TaskTotals], float],
) -> Metric:
    """Return a family of one value per task."""
    return plain(
        family,
        (
            ({**labels, "task": name}, value(task))
            for labels, loop in known
            for name, task in loop.tasks.items()
        ),
    )
