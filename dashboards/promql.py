"""PromQL that several dashboards share. Variables of Grafana (``$group``) are left for it to put in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from threadwatch.model import states

STATES: Final = tuple(sorted(states.STATES, key=lambda state: state.grafana.number))
"""The states of a thread, in the order of their numbers on dashboards."""

NOW: Final = "[$__rate_interval]"
"""The window of a rate at each point of a graph: Grafana's own idea of a sensible one."""
ALL: Final = "[$__range] @ end()"
"""All that a graph shows, the same at each of its points."""

_SCOPES: Final = {
    "host": 'job=~"$job", instance=~"$instance"',
    "groups": 'job=~"$job", instance=~"$instance", group=~"$group"',
    "application": 'job=~"$job", instance=~"$instance", group="$group"',
}


def select(metric: str, scope: str, *matchers: str, thread: bool = False) -> str:
    """Return a selector: ``scope`` is host (all there), groups (of several) or application (of one)."""
    chosen = ['thread=~"$thread"'] if thread else []
    return f"{metric}{{{', '.join([_SCOPES[scope], *chosen, *matchers])}}}"


def rate(metric: str, scope: str, *matchers: str, thread: bool = False, over: str = NOW) -> str:
    """Return growth per second over a window."""
    return f"rate({select(metric, scope, *matchers, thread=thread)}{over})"


def total(by: str, expression: str) -> str:
    """Return the sum by these labels."""
    return f"sum by ({by}) ({expression})"


def published_share(scope: str) -> str:
    """Return the share of processes that publish the names of their threads."""
    return (
        f"sum({select('threadwatch_group_published_processes', scope)})\n"
        f"  / sum({select('threadwatch_group_processes', scope)})"
    )


def of_ours(selector: str) -> str:
    """Series that every exporter has (up, process_*), of those alone that were a threadwatch in the last day.

    A job that has other targets as well may be chosen, and so may all jobs.
    """
    ours = f"last_over_time({select('threadwatch_build_info', 'host')}[1d])"
    return f"({selector} and on (job, instance) {ours})"


def lifetime(by: str, scope: str, *, thread: bool = False, over: str = NOW) -> str:
    """Return how many threads were alive on average: the time that all states together took."""
    return total(
        by, rate("threadwatch_thread_state_seconds_total", scope, thread=thread, over=over)
    )


def gil_utilisation(scope: str, over: str = NOW) -> str:
    """Return how much of the time a GIL is held, 0 to 1, by job, instance and group.

    Where series have a pid, that of the busiest process; else the mean over the processes that publish.
    """
    held = "threadwatch_gil_held_seconds_total"
    labels = "job, instance, group"
    each = total(f"{labels}, pid", rate(held, scope, 'pid!=""', over=over))
    all_of_them = total(labels, rate(held, scope, 'pid=""', over=over))
    published = select("threadwatch_group_published_processes", scope)
    return (
        f"max by ({labels}) (\n  {each}\n  or\n"
        f"  {all_of_them}\n    / on ({labels}) ({published} > 0)\n)"
    )


def most(number: int, by: str, of: Callable[[str], str]) -> str:
    """Return the series of ``of(window)`` that have most in all of the range that is shown.

    They are the same at each point: topk alone chooses anew at each, and breaks lines.
    """
    return f"{of(NOW)}\nand on ({by})\ntopk({number}, {of(ALL)})"


def busiest(by: str, scope: str, number: int) -> str:
    """Return the thread names that used most CPU time in all of the range shown, the same at each point."""
    cpu = rate("threadwatch_thread_cpu_seconds_total", scope, thread=True, over=ALL)
    return f"topk({number}, sum by ({by}) ({cpu}))"


def strongest_state(by: str, scope: str, names: int) -> str:
    """Return, for as many thread ``names``, the number of the state that took most of each one's time."""
    share = total(
        f"{by}, state", rate("threadwatch_thread_state_seconds_total", scope, thread=True)
    )
    numbers = "\n  or ".join(
        f'label_replace(vector({state.grafana.number}), "state", "{state.name}", "", "")'
        for state in STATES
    )
    return (
        f"max by ({by}) (\n  (topk by ({by}) (1, {share} > 0) > bool 0)\n"
        f"  * on (state) group_left ()\n  ({numbers})\n)\n"
        f"and on ({by})\n{busiest(by, scope, names)}"
    )
