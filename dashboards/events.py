"""Events that are marked in each graph: alerts that fire, and restarts. Of a large fleet, some at a time."""

from __future__ import annotations

from dashboards.grid import Json
from dashboards.model import annotation
from dashboards.promql import of_ours, select, total

_FIRING = ('alertstate="firing"', 'alertname=~"Threadwatch.+"')
_OF_AN_ALERT = 5
_STARTS = 20
_MAIN = 'thread="MainThread"'


def events(scope: str) -> list[Json]:
    """Return the events of a dashboard that shows this scope (see :func:`dashboards.promql.select`)."""
    restarted = of_ours(select("process_start_time_seconds", "host"))
    found = [
        annotation(
            "Alerts",
            f"topk by (alertname) ({_OF_AN_ALERT}, {select('ALERTS', scope, *_FIRING)})",
            title="{{alertname}}",
            text="{{group}} {{thread}} on {{instance}}",
            colour="red",
        ),
        annotation(
            "threadwatch started",
            f"topk({_STARTS}, 1000 * {restarted})",
            title="threadwatch started",
            text="on {{instance}}",
            colour="blue",
            at_value=True,
        ),
    ]
    if scope == "application":
        # each process has one main thread
        started = select("threadwatch_threads_started_total", scope, _MAIN)
        found.append(
            annotation(
                "Processes started",
                f"{total('instance, group', f'increase({started}[2m])')} > 0.5",
                title="processes of {{group}} started",
                text="on {{instance}}",
                colour="purple",
            )
        )
    return found
