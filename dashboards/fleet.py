"""All hosts: which application, and which of its threads, uses the CPU, and what cannot be seen.

It is for two hosts as well as for thousands: no panel has a line or a row for each of them.
"""

from __future__ import annotations

from dashboards.events import events
from dashboards.grid import Grid
from dashboards.model import (
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
from dashboards.promql import gil_utilisation, most, of_ours, published_share, rate, select, total

UID = "threadwatch-fleet"
_HOST = "job, instance"
_BY = f"{_HOST}, group"
_ROWS = 50
"""Rows of a table at most."""
_CPUS = "CPUs of the hosts"
_EACH = f"{_BY}, thread"
_SERIES = of_series("instance", "group")
_WAITING = ((None, "transparent"), (0.5, "orange"), (1, "red"))
_SHARE = ((None, "transparent"), (0.5, "orange"), (0.9, "red"))


def _cpu(scope: str, by: str) -> str:
    return total(by, rate("threadwatch_thread_cpu_seconds_total", scope))


def _ten(by: str, metric: str) -> str:
    return most(10, by, lambda over: total(by, rate(metric, "groups", over=over)))


def _without_name(over: str) -> str:
    cpu = total("group", rate("threadwatch_group_cpu_seconds_total", "groups", over=over))
    unattributed = rate(
        "threadwatch_thread_cpu_seconds_total", "groups", 'thread="(unattributed)"', over=over
    )
    return f"(\n  {total('group', unattributed)}\n  or 0 * {cpu}\n) / ({cpu} > 0)"


def build() -> Json:
    """Return the dashboard."""
    grid = Grid()
    grid.line(
        4,
        stat(
            "Hosts",
            "Hosts whose threadwatch answers.",
            Query(f"count({of_ours(select('up', 'host'))} == 1)"),
        ),
        stat(
            "Silent hosts",
            "Hosts whose threadwatch does not answer, and did within the last day: nothing is known of them.",
            Query(f"count({of_ours(select('up', 'host'))} == 0) or vector(0)"),
            colours=((None, "green"), (1, "red")),
        ),
        stat(
            "Applications",
            "Groups that have a process now, each counted once however many hosts it runs on.",
            Query(
                f"count(count by (group) ({select('threadwatch_group_processes', 'groups')} > 0))"
            ),
        ),
        stat(
            "Processes",
            "Processes in these groups.",
            Query(f"sum({select('threadwatch_group_processes', 'groups')})"),
        ),
        stat(
            "Threads",
            "Threads in the processes of these groups, of all names.",
            Query(f"sum({select('threadwatch_threads', 'groups')})"),
        ),
        stat(
            "CPUs used",
            "CPU time per second of all these processes: 1 is one CPU, all the time.",
            Query(f"sum({rate('threadwatch_group_cpu_seconds_total', 'groups')})"),
            decimals=2,
        ),
        stat(
            "GIL-bound",
            "Groups whose GIL is held more than 90 % of the time: they cannot use another CPU, "
            "however many threads they start. The mean over the processes of a group, unless it is "
            "configured with per: process.",
            Query(f"count(\n{gil_utilisation('groups')} > 0.9\n) or vector(0)"),
            colours=((None, "green"), (1, "red")),
        ),
        stat(
            "Published",
            "The share of processes that publish the names of their threads. Of the others, names and the "
            "GIL are read from memory where that is permitted; what threads that live between two polls use "
            "has no name.",
            Query(published_share("groups")),
            unit="percentunit",
            colours=((None, "orange"), (0.9, "green")),
        ),
    )
    grid.heading("Which application")
    cpu = rate("threadwatch_group_cpu_seconds_total", "groups")
    busiest_hosts = _ten(_HOST, "threadwatch_group_cpu_seconds_total")
    grid.line(
        9,
        graph(
            "CPU by application",
            "CPUs used by the ten busiest groups, over all hosts. By the kernel's process clocks, "
            "ended threads included. A click on a series leads to its threads.",
            Query(_ten("group", "threadwatch_group_cpu_seconds_total"), "{{group}}"),
            unit="short",
            stacked=True,
            links=of_series("group"),
            wide=True,
        ),
        graph(
            "CPU by host",
            "CPUs used by the watched processes of the ten busiest hosts, of all others together, and how "
            "many CPUs all hosts have.",
            Query(busiest_hosts, "{{instance}}"),
            Query(f"clamp_min(\n  sum({cpu})\n  - sum(\n{busiest_hosts}\n), 0)", "(other)"),
            Query(f"sum({select('threadwatch_host_cpus', 'host')})", _CPUS),
            unit="short",
            stacked=True,
            dashed=_CPUS,
            links=of_series("instance"),
            wide=True,
        ),
    )
    busiest = f"topk({_ROWS}, {total(_BY, cpu)})"
    is_busiest = f"and on ({_BY}) {busiest}"
    grid.line(
        10,
        table(
            "Each application",
            f"The {_ROWS} groups, each on its host, that use most CPU now: Python, processes, threads, "
            "CPUs, how much of the time its GIL is held, and how many threads wait for the GIL at once. "
            "An empty cell is something that cannot be seen, not a zero. A click on a group leads "
            "to its threads, on a host to its page.",
            Query(busiest, "CPUs"),
            *(
                Query(f"{total(_BY, select(metric, 'groups'))} {is_busiest}", name, decimals=0)
                for name, metric in (
                    ("Processes", "threadwatch_group_processes"),
                    ("Published", "threadwatch_group_published_processes"),
                    ("Threads", "threadwatch_threads"),
                )
            ),
            Query(
                f"{gil_utilisation('groups')} {is_busiest}",
                "GIL held",
                unit="percentunit",
                colours=_SHARE,
            ),
            Query(
                f"{total(_BY, rate('threadwatch_gil_wait_seconds_total', 'groups'))} {is_busiest}",
                "Wait for GIL",
            ),
            Query(
                f"count by ({_BY}, version, gil) ({select('threadwatch_group_info', 'groups')}) "
                f"{is_busiest}",
            ),
            labels=("instance", "group", "version", "gil"),
            hide=("job",),
            sort="CPUs",
            unit="short",
            links=of_row("instance", "group"),
        ),
    )
    grid.heading("Which thread")
    top = f"topk(30, {_cpu('groups', _EACH)})"
    in_top = f"and on ({_EACH}) {top}"
    grid.line(
        11,
        table(
            "Busiest threads",
            "The 30 thread names that use most CPU now: how many threads each has, how many GILs these hold "
            "at once, as each process has one, and how many of them, on average, wait for one, or are ready "
            "to run and have no CPU. A click on a group, a thread or a host leads there.",
            Query(top, "CPUs"),
            Query(
                f"{total(_EACH, select('threadwatch_threads', 'groups'))} {in_top}",
                "Threads",
                decimals=0,
            ),
            Query(
                f"{total(_EACH, rate('threadwatch_gil_held_seconds_total', 'groups'))} {in_top}",
                "GILs held",
            ),
            Query(
                f"{total(_EACH, rate('threadwatch_gil_wait_seconds_total', 'groups'))} {in_top}",
                "Wait for GIL",
                colours=_WAITING,
            ),
            Query(
                total(_EACH, rate("threadwatch_thread_runqueue_wait_seconds_total", "groups"))
                + f" {in_top}",
                "Wait for CPU",
                colours=_WAITING,
            ),
            labels=("instance", "group", "thread"),
            hide=("job",),
            sort="CPUs",
            unit="short",
            links=of_row("instance", "group", "thread"),
        ),
    )
    grid.heading("Why: the GIL, or no CPU")
    grid.line(
        9,
        graph(
            "GIL held, per process",
            "The share of the time that the GIL is held, for the ten groups where it is most. At 1 the "
            "group is bound by it. The mean over its processes, so that one busy process among "
            "idle ones shows less: with per: process in the configuration it is that of the busiest.",
            Query(
                most(10, _BY, lambda over: gil_utilisation("groups", over)),
                "{{group}} on {{instance}}",
            ),
            unit="percentunit",
            ceiling=1,
            links=_SERIES,
            nothing=NOT_SEEN,
        ),
        graph(
            "Threads that wait for the GIL",
            "How many threads wait for the GIL at once, on average.",
            Query(_ten(_BY, "threadwatch_gil_wait_seconds_total"), "{{group}} on {{instance}}"),
            unit="short",
            links=_SERIES,
            nothing=NOT_SEEN,
        ),
        graph(
            "Threads that wait for a CPU",
            "How many threads are ready to run while every CPU they may use is taken, or their quota "
            "is used up, on average.",
            Query(
                _ten(_BY, "threadwatch_thread_runqueue_wait_seconds_total"),
                "{{group}} on {{instance}}",
            ),
            unit="short",
            links=_SERIES,
        ),
    )
    grid.heading("Coverage: what cannot be seen")
    grid.line(
        8,
        table(
            "Processes that do not publish",
            f"How many processes of a group do not publish their threads, in the {_ROWS} groups with most of "
            "them. To lose nothing, start them by threadwatch run, or with THREADWATCH=1. Empty if all do.",
            Query(
                f"topk(\n  {_ROWS}, {total(_BY, select('threadwatch_group_processes', 'groups'))}\n"
                f"  - {total(_BY, select('threadwatch_group_published_processes', 'groups'))} > 0\n)",
                "Processes",
                decimals=0,
            ),
            labels=("instance", "group"),
            hide=("job",),
            sort="Processes",
            unit="short",
            links=of_row("instance", "group"),
        ),
        table(
            "Groups whose GIL is not seen",
            "Groups with processes, but without a series of the GIL: permission is missing, sampling is off, "
            "or their Python has no GIL, or is not known. threadwatch doctor, run on the host, says "
            f"which. Empty if all are seen; at most {_ROWS} groups.",
            Query(
                f"topk(\n  {_ROWS}, {total(_BY, select('threadwatch_group_processes', 'groups'))} > 0\n"
                f"  unless {total(_BY, rate('threadwatch_gil_held_seconds_total', 'groups'))}\n)",
                "Processes",
                decimals=0,
            ),
            labels=("instance", "group"),
            hide=("job",),
            sort="Processes",
            unit="short",
            links=of_row("instance", "group"),
        ),
        graph(
            "CPU time without a name",
            "The share of CPU time that no known thread used: of threads that lived between two polls "
            "in processes that do not publish. Above a few percent, they should. The ten groups with most.",
            Query(most(10, "group", _without_name), "{{group}}"),
            unit="percentunit",
            decimals=1,
        ),
    )
    return dashboard(
        UID,
        "threadwatch / Fleet",
        "All hosts: which application, and which of its threads, uses the CPU or waits; and what "
        "cannot be seen.",
        variables(groups="several"),
        grid,
        events("groups"),
    )
