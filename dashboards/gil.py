"""The dashboard GIL: which threads hold it, which starve, and how long the convoy is."""

from __future__ import annotations

from collections.abc import Callable

from dashboards.events import events
from dashboards.grid import Grid
from dashboards.model import (
    COLOURS,
    NOT_SEEN,
    Json,
    Query,
    dashboard,
    graph,
    of_row,
    of_series,
    stat,
    table,
    variables,
)
from dashboards.promql import NOW, gil_utilisation, lifetime, most, rate, select, total
from threadwatch.model.states import Kind, of_kind

UID = "threadwatch-gil"
_HELD = "threadwatch_gil_held_seconds_total"
_WAIT = "threadwatch_gil_wait_seconds_total"
_CPU = "threadwatch_thread_cpu_seconds_total"
_BY = "job, instance, group"
_EACH = f"{_BY}, thread"
_WITHOUT = select("threadwatch_group_info", "groups", 'gil="off"')
_LEGEND = "{{group}} on {{instance}}"
_THREAD = "{{thread}} of {{group}} on {{instance}}"
_KEPT = of_kind(Kind.KEPT)
_SHARE = ((None, "transparent"), (0.25, "orange"), (0.5, "red"))
_GROUP = of_series("instance", "group")
_SERIES = of_series("instance", "group", "thread")


def _each(metric: str, over: str = NOW) -> str:
    return total(_EACH, rate(metric, "groups", thread=True, over=over))


def _lived(over: str = NOW) -> str:
    return lifetime(_EACH, "groups", thread=True, over=over)


def _ten(of: Callable[[str], str]) -> str:
    return most(10, _EACH, of)


def build() -> Json:
    """Return the dashboard."""
    grid = Grid()
    grid.line(
        4,
        stat(
            "Busiest GIL",
            "The highest share of the time that a GIL is held, of all groups on all hosts. At 100 % "
            "it is the bottleneck.",
            Query(f"max({gil_utilisation('groups')})"),
            unit="percentunit",
            decimals=0,
            colours=((None, "green"), (0.7, "orange"), (0.9, "red")),
            nothing=NOT_SEEN,
        ),
        stat(
            "GIL-bound groups",
            "Groups whose GIL is held more than 90 % of the time.",
            Query(f"count(\n{gil_utilisation('groups')} > 0.9\n) or vector(0)"),
            colours=((None, "green"), (1, "red")),
        ),
        stat(
            "Convoy",
            "Threads that wait for a GIL, on average, all groups together.",
            Query(f"sum({rate(_WAIT, 'groups')})"),
            decimals=2,
            colours=((None, "green"), (1, "orange"), (4, "red")),
            nothing=NOT_SEEN,
        ),
        stat(
            "Groups seen",
            "Groups that have a series of the GIL.",
            Query(f"count({total(_BY, rate(_HELD, 'groups'))})"),
        ),
        stat(
            "Groups without a GIL",
            "Groups that run on a free-threaded Python, with its GIL off.",
            Query(f"count(count by ({_BY}) ({_WITHOUT})) or vector(0)"),
        ),
        stat(
            "Groups not seen",
            "Groups with processes that have neither a series of the GIL nor a Python without one: "
            "permission is missing, their Python is not known, or sampling is off.",
            Query(
                "count(\n"
                f"  {total(_BY, select('threadwatch_group_processes', 'groups'))} > 0\n"
                f"  unless {total(_BY, rate(_HELD, 'groups'))}\n"
                f"  unless count by ({_BY}) "
                f"({_WITHOUT})\n) or vector(0)"
            ),
            colours=((None, "green"), (1, "orange")),
        ),
    )
    grid.heading("Is it the bottleneck?")
    grid.line(
        9,
        graph(
            "GIL held, per process",
            "The share of the time that the GIL is held. Each process has a GIL of its own: this is "
            "the mean over the processes that publish, so one busy process among idle ones shows "
            "less; with per: process in the configuration, it is that of the busiest.",
            Query(gil_utilisation("groups"), _LEGEND),
            unit="percentunit",
            ceiling=1,
            links=_GROUP,
            nothing=NOT_SEEN,
        ),
        graph(
            "GILs held at once",
            "How many GILs of a group are held at once, on average: it can be as many as the group has "
            "processes. Near 1 for a group with one process that works, and others that do not, it is "
            "as bound as one that has one process.",
            Query(total(_BY, rate(_HELD, "groups")), _LEGEND),
            unit="short",
            links=_GROUP,
            nothing=NOT_SEEN,
        ),
        graph(
            "The convoy",
            "How many threads of a group wait for the GIL at once, on average.",
            Query(total(_BY, rate(_WAIT, "groups")), _LEGEND),
            unit="short",
            links=_GROUP,
            nothing=NOT_SEEN,
        ),
    )
    grid.heading("Which threads hold it, which starve")
    grid.line(
        10,
        graph(
            "Who holds it",
            "The ten thread names that hold the GIL most: the share of the time that threads of that "
            "name hold it.",
            Query(_ten(lambda over: _each(_HELD, over)), _THREAD),
            unit="short",
            stacked=True,
            links=_SERIES,
            nothing=NOT_SEEN,
            wide=True,
        ),
    )
    grid.line(
        10,
        graph(
            "Who starves",
            "The ten thread names that spend the largest share of their lives waiting for the GIL. "
            "With N threads that compute in Python all the time, (N−1)/N is what to expect.",
            Query(_ten(lambda over: f"({_each(_WAIT, over)}\n  / ({_lived(over)} > 0))"), _THREAD),
            unit="percentunit",
            links=_SERIES,
            nothing=NOT_SEEN,
            wide=True,
        ),
    )
    grid.line(
        10,
        table(
            "Each thread and the GIL",
            "Threads that waited for the GIL or held it: what share of its life a thread of that name "
            "did so, and how many seconds it waited for each second that it used a CPU. A large number "
            "there, of a thread that uses little, is the convoy effect: it wakes often, and "
            "each time waits for the one that computes. Of what uses less than a thousandth of a CPU that "
            "cell is empty.",
            Query(f"{_each(_HELD)} / ({_lived()} > 0)", "Held", colours=_SHARE),
            Query(f"{_each(_WAIT)} / ({_lived()} > 0)", "Waited", colours=_SHARE),
            Query(_each(_CPU), "CPUs", unit="short"),
            Query(
                f"{_each(_WAIT)} / ({_each(_CPU)} > 0.001)",
                "Wait per CPU second",
                unit="short",
                decimals=1,
            ),
            labels=("instance", "group", "thread"),
            hide=("job",),
            sort="Waited",
            unit="percentunit",
            links=of_row("instance", "group", "thread"),
            nothing=NOT_SEEN,
        ),
    )
    grid.heading("Is it really the GIL?")
    grid.line(
        8,
        graph(
            "What threads wait for instead of running",
            "Threads that want to run and cannot: for want of the GIL, of a CPU, or of a disk. If a "
            "CPU is what is missing, the holder of the GIL waits for one as well, and all others for "
            "the holder: more CPUs help then.",
            Query(
                total(
                    "state",
                    rate(
                        "threadwatch_thread_state_seconds_total",
                        "groups",
                        f'state=~"{"|".join(_KEPT)}"',
                        thread=True,
                    ),
                ),
                "{{state}}",
            ),
            unit="short",
            colours={state: COLOURS[state] for state in _KEPT},
            wide=True,
        ),
    )
    grid.line(
        9,
        graph(
            "Wait per CPU second",
            "Seconds that a thread waited for the GIL for each second that it used a CPU, of the ten "
            "thread names where that is most. Only those that use at least a thousandth of a CPU.",
            Query(
                _ten(lambda over: f"({_each(_WAIT, over)}\n  / ({_each(_CPU, over)} > 0.001))"),
                _THREAD,
            ),
            unit="short",
            decimals=1,
            links=_SERIES,
            nothing=NOT_SEEN,
            wide=True,
        ),
    )
    return dashboard(
        UID,
        "threadwatch / GIL",
        "The global interpreter lock: which threads hold it, which starve, and how long the convoy is.",
        variables(groups="several", thread=True),
        grid,
        events("groups"),
    )
