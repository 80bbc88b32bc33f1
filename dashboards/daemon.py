"""threadwatch itself: what it costs, what it cannot read, what it leaves out."""

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
from dashboards.promql import of_ours, rate, select, total

UID = "threadwatch-daemon"
_HOST = "host"
_BY = "job, instance"
_WATCH = "{{instance}}"
_CONFIGURED = "threadwatch_config_last_reload_success_timestamp_seconds"
_PAGE = of_series("instance")
_GROUP = of_series("instance", "group")


def _each(metric: str, *matchers: str) -> str:
    return total(_BY, rate(metric, _HOST, *matchers))


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
    everything = total(_BY, of_ours(rate("process_cpu_seconds_total", _HOST)))
    grid.line(
        9,
        graph(
            "CPU",
            "CPUs that each daemon uses, in all: polls, samples and scrapes.",
            Query(everything, _WATCH),
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
            "CPU time of one poll, and of one look at one process between polls.",
            Query(f"{polls} / ({_each('threadwatch_polls_total')} > 0)", "poll, {{instance}}"),
            Query(
                f"{samples} / ({_each('threadwatch_wait_samples_total')} > 0)",
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
            "the daemon got no CPU.",
            Query(_each("threadwatch_polls_total"), "{{instance}}"),
            Query(_each("threadwatch_polls_skipped_total"), "{{instance}} left out"),
            unit="cps",
            below_zero=".* left out$",
        ),
        graph(
            "Samples",
            "Looks at a process per second: waits.rate for each process that is awake.",
            Query(_each("threadwatch_wait_samples_total"), _WATCH),
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
            "malformed should not be. Empty if there has been none.",
            Query(
                total("instance, source, reason", rate("threadwatch_read_errors_total", _HOST)),
                "{{source}} {{reason}} on {{instance}}",
            ),
            unit="cps",
            links=_PAGE,
        ),
        graph(
            "Tables handed over",
            "Sent by processes to the daemon's socket, by what has come of them. For others than believed, "
            "known and ended, see the table in docs/metrics.md. Empty without a socket.",
            Query(
                total("instance, result", rate("threadwatch_tables_handed_over_total", _HOST)),
                "{{result}} on {{instance}}",
            ),
            unit="cps",
            links=_PAGE,
            nothing="needs publish_socket",
        ),
    )
    grid.line(
        8,
        graph(
            "Thread names without a series",
            "How often per second a name found no place under its group's cap and went into (other). "
            "Names that change, with numbers in them, need a name rule.",
            Query(
                total("instance, group", rate("threadwatch_series_dropped_total", _HOST)),
                "{{group}} on {{instance}}",
            ),
            unit="cps",
            links=_GROUP,
        ),
        graph(
            "Ended processes without a name",
            "CPUs that child processes used between polls and their ends, beyond what bears the names of "
            "their threads. Much of it: workers live too briefly for poll_interval.",
            Query(
                total(
                    "instance, group",
                    rate("threadwatch_group_ended_children_cpu_seconds_total", _HOST),
                ),
                "{{group}} on {{instance}}",
            ),
            unit="short",
            links=_GROUP,
        ),
        graph(
            "Samples per scrape",
            "How many samples Prometheus stores at each scrape: what this costs there.",
            Query(
                of_ours(select("scrape_samples_scraped", _HOST)),
                _WATCH,
            ),
            unit="short",
            decimals=0,
            links=_PAGE,
        ),
    )
    grid.heading("The process")
    grid.line(
        8,
        graph(
            "Memory",
            "Physical memory of each daemon.",
            Query(of_ours(select("process_resident_memory_bytes", _HOST)), _WATCH),
            unit="bytes",
            links=_PAGE,
        ),
        graph(
            "File descriptors",
            "Open ones as a share of what is allowed. One is kept for each thread that runs now and "
            "then: at 100 % it still works, at a higher cost.",
            Query(
                f"{of_ours(select('process_open_fds', _HOST))}\n"
                f"  / on ({_BY}) {select('process_max_fds', _HOST)}",
                _WATCH,
            ),
            unit="percentunit",
            decimals=1,
            ceiling=1,
            links=_PAGE,
        ),
    )
    grid.line(
        7,
        table(
            "Daemons",
            "Version, Python, how long each has run, and how long ago it read its configuration.",
            Query(
                f"count by ({_BY}, version, pythonversion) "
                f"({select('threadwatch_build_info', _HOST)})"
            ),
            Query(
                f"floor(time() - {total(_BY, of_ours(select('process_start_time_seconds', _HOST)))})",
                "Running for",
                unit="dtdurations",
            ),
            Query(
                f"floor(time() - {total(_BY, select(_CONFIGURED, _HOST))})",
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
