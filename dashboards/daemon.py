"""threadwatch itself: what it costs, what it cannot read, what it leaves out.

It is for thousands of daemons as well: no graph has a line for each of them, but for the ten with most.
"""

from __future__ import annotations

from dashboards.events import events
from dashboards.grid import Grid
from dashboards.model import (
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
from dashboards.promql import ALL, NOW, most, of_ours, rate, select, total

UID = "threadwatch-daemon"
_HOST = "host"
_BY = "job, instance"
_LINES = 10
_ROWS = 50
_WATCH = "{{instance}}"
_SKIPPED = "threadwatch_polls_skipped_total"
_CONFIGURED = "threadwatch_config_last_reload_success_timestamp_seconds"
_PAGE = of_series("instance")
_GROUP = of_series("instance", "group")


def _each(metric: str, *matchers: str) -> str:
    return total(_BY, rate(metric, _HOST, *matchers))


def _ten(by: str, metric: str) -> str:
    return most(_LINES, by, lambda over: total(by, rate(metric, _HOST, over=over)))


def _of_ten(expression: str, metric: str) -> str:
    """Return what an expression says of the ten daemons with most of a counter."""
    return (
        f"{expression}\nand on ({_BY})\ntopk({_LINES}, {total(_BY, rate(metric, _HOST, over=ALL))})"
    )


def _with_cpu(over: str) -> str:
    return total(_BY, of_ours(rate("process_cpu_seconds_total", _HOST, over=over)))


def _at_most(metric: str) -> str:
    """Return the ten daemons of which a gauge was largest in all of the range that is shown."""
    largest = of_ours(f"max_over_time({select(metric, _HOST)}{ALL})")
    return f"{of_ours(select(metric, _HOST))}\nand on ({_BY})\ntopk({_LINES}, {largest})"


def _quantile(q: float) -> str:
    buckets = total("le", rate("threadwatch_poll_duration_seconds_bucket", _HOST))
    return f"histogram_quantile({q}, {buckets})"


def build() -> Json:
    """Return the dashboard."""
    grid = Grid()
    grid.line(
        4,
        stat(
            "Answer",
            "Daemons that answer Prometheus.",
            Query(f"sum({of_ours(select('up', _HOST))})"),
        ),
        stat(
            "Oldest poll",
            "How old the values of the daemon are that polled last longest ago. Above the scrape "
            "interval plus the poll interval it hangs, or the clocks of the hosts differ.",
            Query(f"time() - min({select('threadwatch_last_poll_timestamp_seconds', _HOST)})"),
            unit="s",
            colours=((None, "green"), (60, "orange"), (120, "red")),
        ),
        stat(
            "Polls left out",
            "Share of the polls that were due and did not take place, of all daemons.",
            Query(
                f"sum({rate('threadwatch_polls_skipped_total', _HOST)})\n"
                f"  / (sum({rate('threadwatch_polls_total', _HOST)})"
                f" + sum({rate('threadwatch_polls_skipped_total', _HOST)}))"
            ),
            unit="percentunit",
            decimals=1,
            colours=((None, "green"), (0.05, "orange"), (0.25, "red")),
        ),
        stat(
            "Cost",
            "CPUs that all chosen daemons use, scrapes included.",
            Query(f"sum({of_ours(rate('process_cpu_seconds_total', _HOST))})"),
            unit="percentunit",
            decimals=2,
        ),
        stat(
            "Read errors",
            "Reads per second that should have worked and did not.",
            Query(f"sum({rate('threadwatch_read_errors_total', _HOST)}) or vector(0)"),
            unit="cps",
            colours=((None, "green"), (0.01, "orange"), (1, "red")),
        ),
        stat(
            "Configuration",
            "Whether every daemon could read its configuration when it was last asked to.",
            Query(f"min({select('threadwatch_config_last_reload_successful', _HOST)})"),
            unit="bool_yes_no",
            words={"1": ("good", "green"), "0": ("bad", "red")},
        ),
    )
    grid.heading("What it costs")
    polls, samples = (
        _each("threadwatch_poll_cpu_seconds_total"),
        _each("threadwatch_wait_sample_cpu_seconds_total"),
    )
    everything = _with_cpu(NOW)
    grid.line(
        9,
        graph(
            "CPU",
            "CPUs that the ten dearest daemons use, in all: polls, samples and scrapes.",
            Query(most(_LINES, _BY, _with_cpu), _WATCH),
            unit="percentunit",
            decimals=1,
            links=_PAGE,
        ),
        graph(
            "What for",
            "Polls read what has run; samples look at what threads wait for and which hold the GIL; the "
            "rest is scrapes and start-up. All chosen daemons together.",
            Query(f"sum({polls})", "polls"),
            Query(f"sum({samples})", "samples"),
            Query(f"clamp_min(sum({everything}) - sum({polls}) - sum({samples}), 0)", "the rest"),
            unit="percentunit",
            decimals=1,
            stacked=True,
        ),
        graph(
            "CPU per poll and per sample",
            "CPU time of one poll, and of one look at one process between polls, of the ten daemons whose "
            "polls, or looks, cost most.",
            Query(
                _of_ten(
                    f"{polls} / ({_each('threadwatch_polls_total')} > 0)",
                    "threadwatch_poll_cpu_seconds_total",
                ),
                "poll, {{instance}}",
            ),
            Query(
                _of_ten(
                    f"{samples} / ({_each('threadwatch_wait_samples_total')} > 0)",
                    "threadwatch_wait_sample_cpu_seconds_total",
                ),
                "sample, {{instance}}",
            ),
            unit="s",
        ),
    )
    grid.line(
        9,
        graph(
            "How long a poll takes",
            "Real time, of all chosen daemons. Much longer than its CPU time: the host is short of CPUs.",
            Query(_quantile(0.5), "half"),
            Query(_quantile(0.99), "99 %"),
            Query(
                f"sum({rate('threadwatch_poll_duration_seconds_sum', _HOST)})\n"
                f"  / sum({rate('threadwatch_poll_duration_seconds_count', _HOST)})",
                "mean",
            ),
            unit="s",
        ),
        graph(
            "Polls",
            "Polls per second, upwards, and those left out, downwards: the one before took too long, or "
            "the daemon got no CPU. Of the ten daemons that left out most.",
            Query(_of_ten(_each("threadwatch_polls_total"), _SKIPPED), "{{instance}}"),
            Query(_of_ten(_each(_SKIPPED), _SKIPPED), "{{instance}} left out"),
            unit="cps",
            below_zero=".* left out$",
        ),
        graph(
            "Samples",
            "Looks at a process per second: waits.rate for each process that is awake. Of the ten daemons "
            "that take most.",
            Query(_ten(_BY, "threadwatch_wait_samples_total"), _WATCH),
            unit="cps",
            links=_PAGE,
        ),
    )
    grid.heading("What it cannot read, and what it leaves out")
    grid.line(
        9,
        graph(
            "Read errors by reason",
            "By source and reason. denied is want of permission: threadwatch doctor says of what. "
            "malformed should not be. The ten with most. Empty if there has been none.",
            Query(
                _ten("instance, source, reason", "threadwatch_read_errors_total"),
                "{{source}} {{reason}} on {{instance}}",
            ),
            unit="cps",
            links=_PAGE,
        ),
        graph(
            "Tables handed over",
            "Sent by processes to the daemon's socket, by what has come of them. For others than believed, "
            "known and ended, see the table in docs/metrics.md. The ten with most. Empty without a socket.",
            Query(
                _ten("instance, result", "threadwatch_tables_handed_over_total"),
                "{{result}} on {{instance}}",
            ),
            unit="cps",
            links=_PAGE,
            nothing="needs publish_socket",
        ),
    )
    grid.line(
        9,
        graph(
            "Thread names without a series",
            "How often per second a name found no place under its group's cap and went into (other). "
            "Names that change, with numbers in them, need a name rule. The ten groups with most.",
            Query(
                _ten("instance, group", "threadwatch_series_dropped_total"),
                "{{group}} on {{instance}}",
            ),
            unit="cps",
            links=_GROUP,
        ),
        graph(
            "Ended processes without a name",
            "CPUs that child processes used between polls and their ends, beyond what bears the names of "
            "their threads. Much of it: workers live too briefly for poll_interval. The ten groups with "
            "most.",
            Query(
                _ten("instance, group", "threadwatch_group_ended_children_cpu_seconds_total"),
                "{{group}} on {{instance}}",
            ),
            unit="short",
            links=_GROUP,
        ),
    )
    grid.heading("The process, and what it exports")
    started = total(_BY, of_ours(select("process_start_time_seconds", _HOST)))
    latest = f"and on ({_BY})\ntopk({_ROWS}, {started})"
    grid.line(
        8,
        graph(
            "Memory",
            "Physical memory of the ten largest daemons.",
            Query(_at_most("process_resident_memory_bytes"), _WATCH),
            unit="bytes",
            links=_PAGE,
        ),
        graph(
            "File descriptors",
            "Open ones as a share of what is allowed. One is kept for each thread that runs now and "
            "then: at 100 % it still works, at a higher cost. Of the ten daemons with most.",
            Query(
                f"({_at_most('process_open_fds')})\n"
                f"  / on ({_BY}) {select('process_max_fds', _HOST)}",
                _WATCH,
            ),
            unit="percentunit",
            decimals=1,
            ceiling=1,
            links=_PAGE,
        ),
        graph(
            "Samples per scrape",
            "How many samples Prometheus stores at each scrape: what this costs there. Of the ten daemons "
            "with most.",
            Query(_at_most("scrape_samples_scraped"), _WATCH),
            unit="short",
            decimals=0,
            links=_PAGE,
        ),
    )
    grid.line(
        7,
        table(
            "Daemons",
            "Version, Python, how long each has run, and how long ago it read its configuration. The fifty "
            "that were started last.",
            Query(
                f"count by ({_BY}, version, pythonversion) "
                f"({select('threadwatch_build_info', _HOST)})\n{latest}"
            ),
            Query(
                f"floor(time() - {started})\n{latest}",
                "Running for",
                unit="dtdurations",
            ),
            Query(
                f"floor(time() - {total(_BY, select(_CONFIGURED, _HOST))})\n{latest}",
                "Configured for",
                unit="dtdurations",
            ),
            labels=("instance", "version", "pythonversion"),
            hide=("job",),
            unit="s",
            links=of_row("instance"),
        ),
    )
    return dashboard(
        UID,
        "threadwatch / threadwatch itself",
        "What watching costs, what cannot be read, and what is left out.",
        variables(),
        grid,
        events("host"),
    )
