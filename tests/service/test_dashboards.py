"""Dashboards and rules on a real Prometheus that has scraped a real daemon watching the demo application.

No Grafana runs here: variables are put in as it does (tests/grafana.py), and the answers are looked at.
"""

from __future__ import annotations

import contextlib
import math
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.promql import STATES
from tests import grafana, prometheus
from tests.grafana import Expression
from tests.harness import until
from tests.prometheus import Prometheus
from tests.serving import request
from tests.testbed import CHECKOUT
from tests.watched import RULES, scraping, watched

OTHER_JOBS = """
  - job_name: nothing-there
    static_configs:
      - targets: ["127.0.0.1:1"]
"""
ANOTHER_EXPORTER = """
  - job_name: prometheus
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""
"""A job with process_* of its own."""

RATE_INTERVAL = "4s"
"""What Grafana makes of a scrape interval of one second: four of them."""
LOOK_BACK = "15s"
"""What most queries are of; in it, 150 samples of a GIL."""

DASHBOARDS = {path.stem: grafana.load(path) for path in grafana.FILES}
ALL: Mapping[str, str | list[str]] = {
    "__rate_interval": RATE_INTERVAL,
    "__range": "1m",
    "job": "$__all",
    "instance": "$__all",
    "thread": "$__all",
}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Prometheus]]:
    """Yield both Prometheus, when they have scraped the daemon for a while."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.chmod(0o755)
        daemon = stack.enter_context(watched(place))
        config = scraping(daemon) + OTHER_JOBS
        found: dict[str, Prometheus] = {}
        for name, command in {"2": prometheus.ON_PATH, "3": prometheus.IN_TESTBED}.items():
            (place / name).mkdir()
            found[name] = stack.enter_context(
                Prometheus(place / name, config=config, command=command)
            )
            config += ANOTHER_EXPORTER.format(port=found[name].port)
        for server in found.values():
            # the births of timers' threads, and enough scrapes for every rate
            server.wait_for(
                "min(count_over_time(threadwatch_threads_started_total"
                '{group="demo_app", thread=~"Thread-N|price-engine|event-loop"}[30s])) > 8'
            )
            until(partial(_has_settled, server), "enough scrapes, one after the other")
        yield found


def _has_settled(server: Prometheus) -> bool:
    """Have queries answered as of now, if no scrape has failed for as long as they look back.

    A scrape to which the daemon, on a busy machine, has not answered within a second ends all series.
    """
    server.at = time.time()
    up = f'up{{job="threadwatch"}}[{LOOK_BACK}]'
    return bool(server.query(f"min_over_time({up}) == 1 and count_over_time({up}) >= 12"))


def _pace(server: Prometheus, interval: str) -> float:
    """Return how many of the daemon's seconds passed in a second of its scrapes, by its last polls.

    Each scrape shows a poll that is up to half a second old, or more where a poll was late.
    """
    (found,) = server.query(f"rate(threadwatch_last_poll_timestamp_seconds[{interval}])")
    return found.value


@pytest.fixture(params=["2", "3"])
def server(request: pytest.FixtureRequest, servers: dict[str, Prometheus]) -> Prometheus:
    """Return each Prometheus in turn."""
    return servers[request.param]


def _values(dashboard: str, **chosen: str | list[str]) -> Mapping[str, str | list[str]]:
    """Return all of everything; of an application, the demo."""
    group = "demo_app" if dashboard == "application" else "$__all"
    return {**ALL, "group": group, **chosen}


def _long(dashboard: str, **chosen: str | list[str]) -> Mapping[str, str | list[str]]:
    """Return the same for rates over so long that chance moves no share of samples by much."""
    return {**_values(dashboard, **chosen), "__rate_interval": LOOK_BACK}


def _answer(
    server: Prometheus, asked: Expression, values: Mapping[str, str | list[str]]
) -> list[tuple[Mapping[str, str], list[float]]]:
    """Labels and values, without those that are not a number, of each series of the answer."""
    query = grafana.interpolate(asked.text, DASHBOARDS[asked.dashboard], values)
    if asked.instant:
        found = [(result.labels, [result.value]) for result in server.query(query)]
    else:
        found = [
            (samples.labels, list(samples.values.values()))
            for samples in server.query_range(query, over=5, step=1)
        ]
    numbers = [(labels, [v for v in values if not math.isnan(v)]) for labels, values in found]
    return [(labels, values) for labels, values in numbers if values]


@pytest.mark.parametrize("asked", grafana.expressions(), ids=str)
def test_every_panel_has_data(servers: dict[str, Prometheus], asked: Expression) -> None:
    """Each query of each panel is answered with numbers, on both versions of Prometheus."""
    chosen = {"group": "pair"} if asked.panel == "CPU by process" else {}
    for version, server in servers.items():
        found = _answer(server, asked, _values(asked.dashboard, **chosen))
        assert found, f"Prometheus {version} has nothing for {asked.text}"
        assert all(math.isfinite(value) for _, values in found for value in values)


def _named(dashboard: str, panel: str, letter: str = "A") -> Expression:
    (found,) = [
        asked
        for asked in grafana.expressions()
        if (asked.dashboard, asked.panel, asked.letter) == (dashboard, panel, letter)
    ]
    return found


@pytest.mark.parametrize("name", DASHBOARDS)
def test_variables_are_chained(server: Prometheus, name: str) -> None:
    """Each variable's query, with those before it put in, lists what there is."""
    values = dict(_values(name))
    options = {}
    for variable, (selector, label) in grafana.queries_of_variables(DASHBOARDS[name]).items():
        asked = grafana.interpolate(selector, DASHBOARDS[name], values)
        options[variable] = sorted({labels[label] for labels in server.series(asked)})
        if variable in {"job", "instance"}:
            values[variable] = options[variable]
    assert options["job"] == ["threadwatch"]
    (instance,) = options["instance"]
    assert instance.startswith("127.0.0.1:")
    if "group" in options:
        assert {"demo_app", "plain"} <= set(options["group"])
    if "thread" in options:
        assert {"price-engine", "Thread-N (sleeper)", "http_N", "MainThread"} <= set(
            options["thread"]
        )
    # a group that is not there has no threads
    if name == "application":
        selector, _ = grafana.queries_of_variables(DASHBOARDS[name])["thread"]
        nothing = {**values, "group": "no such"}
        assert server.series(grafana.interpolate(selector, DASHBOARDS[name], nothing)) == []


@pytest.mark.parametrize(
    "chosen", [["Thread-N (sleeper)"], ["price-engine", "Thread-N (sleeper)"]], ids=["one", "two"]
)
def test_chosen_threads_alone_are_shown(server: Prometheus, chosen: list[str]) -> None:
    """A choice of threads reaches the query, with what a regular expression would take for its own."""
    for panel in (
        "CPU by thread",
        "What each thread mostly does",
        "GIL held by thread",
        "Threads by name",
    ):
        values = _values("application", thread=chosen)
        found = _answer(server, _named("application", panel), values)
        assert {labels["thread"] for labels, _ in found} == set(chosen)


def test_the_timeline_shows_what_threads_do(server: Prometheus) -> None:
    """The sleeper is shown asleep, the event loop in poll, and every other thread in a state that exists."""
    asked = _named("application", "What each thread mostly does")
    found = {labels["thread"]: v for labels, v in _answer(server, asked, _values("application"))}
    assert {STATES[int(number) - 1].name for number in found["housekeeping"]} == {"sleep"}
    assert {STATES[int(number) - 1].name for number in found["event-loop"]} <= {
        *("poll", "gil", "runnable")
    }
    assert all(
        number in range(1, len(STATES) + 1) for several in found.values() for number in several
    )
    (mapping,) = next(
        panel["fieldConfig"]["defaults"]["mappings"]
        for panel in grafana.panels(DASHBOARDS["application"])
        if panel["title"] == asked.panel
    )
    texts = {int(number): shown["text"] for number, shown in mapping["options"].items()}
    assert texts == {state.grafana.number: state.name for state in STATES}


UIDS = {dashboard["uid"]: name for name, dashboard in DASHBOARDS.items()}
CLICKED = {"datasource": "prometheus", "job": "$__all", "instance": "$__all", "group": "demo_app"}
"""The variables of a dashboard on which is clicked."""


@pytest.mark.parametrize("name", DASHBOARDS)
def test_clicks_lead_to_what_was_clicked(servers: dict[str, Prometheus], name: str) -> None:
    """Each link of a series or row leads to its host's page, or to its group or thread and nothing else."""
    server = servers["3"]
    found: set[grafana.Followed] = set()
    for panel in grafana.panels(DASHBOARDS[name]):
        for asked in grafana.expressions():
            if (asked.dashboard, asked.panel) == (name, panel["title"]):
                for labels, _ in _answer(server, asked, _values(name)):
                    found |= {*grafana.followed(panel, asked.legend, labels, CLICKED)}
    assert found
    for one in found:
        assert "$" not in one.title
        if one.url:
            status, page = request(one.url)
            assert status == 200
            assert "threadwatch</title>" in page
        else:
            _leads_there(server, UIDS[one.uid], dict(one.variables))


def _leads_there(server: Prometheus, name: str, chosen: Mapping[str, str]) -> None:
    """Check that each variable has what was chosen, and that graphs show that alone."""
    assert chosen["datasource"] == CLICKED["datasource"]
    values: dict[str, str | list[str]] = {**_values(name), **chosen}
    for variable, (selector, label) in grafana.queries_of_variables(DASHBOARDS[name]).items():
        series = server.series(grafana.interpolate(selector, DASHBOARDS[name], values))
        offered = {labels[label] for labels in series}
        assert values[variable] in {"$__all", *offered}
    shown = _answer(server, _named(name, "CPU by thread"), values)
    assert shown
    if "thread" in chosen:
        assert {labels["thread"] for labels, _ in shown} == {chosen["thread"]}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_events_can_be_asked_for(server: Prometheus, name: str) -> None:
    """Prometheus takes the query of each event; that of a start has the daemon's own time of it, in ms."""
    found = {
        event["name"]: server.query(
            grafana.interpolate(event["expr"], DASHBOARDS[name], _values(name))
        )
        for event in grafana.events(DASHBOARDS[name])
    }
    (started,) = found["threadwatch started"]
    (value,) = server.query('process_start_time_seconds{job="threadwatch"}')
    assert started.value == 1000 * value.value


def test_the_states_add_up_to_the_threads(server: Prometheus) -> None:
    """The stacked areas of where the time goes are as high as there are threads."""
    # over more than a graph's four scrapes: each shows a poll that is up to half a second old
    values = {**_values("application"), "__rate_interval": "9s"}

    def height(panel: str) -> float:
        found = _answer(server, _named("application", panel), values)
        return sum(values[-1] for _, values in found)

    spent, pace = height("Where the time goes"), _pace(server, "9s")
    assert spent / pace == pytest.approx(height("Threads by name"), rel=0.2)
    assert spent == pytest.approx(height("Threads alive, on average"), rel=0.05)
    # the demo has 18 threads, in four processes
    assert 14.4 < spent / pace < 21.6


def test_the_busiest_threads_are_on_top(server: Prometheus) -> None:
    """The fleet's table has the demo's busy threads, and as much CPU as the group's own clock says."""
    found = _answer(
        server, _named("fleet", "Busiest threads"), _values("fleet", group=["demo_app"])
    )
    used = {labels["thread"]: values[0] for labels, values in found}
    assert set(sorted(used, key=lambda name: -used[name])[:3]) & {"price-engine", "http_N"}
    (group,) = _answer(server, _named("fleet", "CPUs used"), _values("fleet", group=["demo_app"]))
    assert sum(used.values()) == pytest.approx(group[1][0], rel=0.2)


def test_a_gil_is_held_no_more_than_all_the_time(server: Prometheus) -> None:
    """The share is of each process: four processes that hold four GILs now and then do not exceed 1."""
    asked, values = _named("gil", "GIL held, per process"), _long("gil")
    found = {labels["group"]: v for labels, v in _answer(server, asked, values)}
    assert 0.02 < found["demo_app"][-1] <= 1.05 * _pace(server, LOOK_BACK)
    held = _answer(server, _named("gil", "GILs held at once"), _long("gil", group=["demo_app"]))
    processes = server.query('threadwatch_group_published_processes{group="demo_app"}')[0].value
    assert held[0][1][-1] == pytest.approx(found["demo_app"][-1] * processes, rel=0.35)


def test_the_gil_of_the_busiest_process_is_shown(server: Prometheus) -> None:
    """Where series have a pid, the share is that of the process that computes, not the mean of both."""
    asked = _named("gil", "GIL held, per process")
    (shown,) = _answer(server, asked, _long("gil", group=["pair"]))
    (both,) = _answer(server, _named("gil", "GILs held at once"), _long("gil", group=["pair"]))
    assert 0.2 < shown[1][-1] < 1.05 * _pace(server, LOOK_BACK)
    # the other process does nothing: all that is held, the one holds
    assert shown[1][-1] == pytest.approx(both[1][-1], rel=0.3)
    assert server.query('threadwatch_group_published_processes{group="pair"}')[0].value == 2


def test_other_jobs_are_not_counted(server: Prometheus) -> None:
    """With all jobs chosen, neither a target that is down nor another exporter is taken for a threadwatch."""
    assert len(server.query("up")) >= 2
    numbers = {
        panel: _answer(server, _named(dashboard, panel), _values(dashboard))[0][1]
        for dashboard, panel in (
            ("fleet", "Hosts"),
            ("fleet", "Silent hosts"),
            ("daemon", "Answer"),
        )
    }
    assert numbers == {"Hosts": [1], "Silent hosts": [0], "Answer": [1]}
    memory = _answer(server, _named("daemon", "Memory"), _values("daemon"))
    assert {labels["job"] for labels, _ in memory} == {"threadwatch"}


def test_what_cannot_be_seen_is_listed(server: Prometheus) -> None:
    """The application that does not publish is in the tables of coverage; the demo is not."""
    for panel in ("Processes that do not publish", "Groups whose GIL is not seen"):
        found = {
            labels["group"]
            for labels, _ in _answer(server, _named("fleet", panel), _values("fleet"))
        }
        assert "plain" in found
        assert "demo_app" not in found


PLACEHOLDERS = {"GROUP": "demo_app", "THREAD": "http_N", "shop": "demo_app"}
"""What the pages have in the place of a reader's own application and thread."""


@pytest.mark.parametrize(
    "page",
    [CHECKOUT / "docs" / "grafana.md", *sorted((CHECKOUT / "docs" / "runbooks").glob("*.md"))],
    ids=lambda page: str(page.stem),
)
def test_what_the_pages_say_to_type_is_answered(server: Prometheus, page: Path) -> None:
    """Each query of docs/grafana.md and the runbooks runs; those that do not ask for trouble have data."""
    queries = re.findall("```promql\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert queries
    for query in queries:
        hurried = query.replace("[5m]", "[5s]").replace("offset 1h", "offset 1s")
        for name, meant in PLACEHOLDERS.items():
            hurried = hurried.replace(f'"{name}"', f'"{meant}"')
        found = server.query(hurried)
        assert found or re.search(r' > |state="disk"|thread="\(other\)"', query), query


def _rules(kind: str) -> list[dict[str, Any]]:
    """Return the rules that ``record`` something, or those that ``alert``."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def test_rules_are_evaluated_and_silent(server: Prometheus) -> None:
    """Prometheus evaluates every rule without an error, and no alert fires for the demo."""
    names = {
        rule.get("alert") or rule["record"] for kind in ("alert", "record") for rule in _rules(kind)
    }
    quick = names - {"group:threadwatch_group_present:ratio1d"}

    def evaluated() -> bool:
        return all(server.rules()[name]["health"] != "unknown" for name in quick)

    until(evaluated, "rules evaluated")
    found = server.rules()
    assert set(found) == names
    assert [
        (name, rule.get("lastError")) for name, rule in found.items() if rule["health"] == "err"
    ] == []
    firing = [
        alert["labels"]
        for rule in found.values()
        for alert in rule.get("alerts", [])
        if alert["state"] == "firing"
    ]
    assert firing == []


def _hurried(expression: str) -> str:
    """Return the same over seconds: what has been scraped is not an hour old."""
    for long, short in {"[1d:5m]": "[5s:1s]", "[5m]": "[5s]", "[1h]": "[5s]"}.items():
        expression = expression.replace(long, short)
    for long, short in {"1h": "3s", "40m": "2s", "20m": "1s"}.items():
        expression = expression.replace(f"offset {long}", f"offset {short}")
    return expression


def _without_conditions(expression: str) -> str:
    """Return what an expression compares, without the comparison."""
    compared = re.sub(
        r"(?<![=!~<>])(==|>|<)(?! bool)\s", r"\1 bool ", expression.split("unless", maxsplit=1)[0]
    )
    return compared + ")" * (compared.count("(") - compared.count(")"))


@pytest.mark.parametrize("rule", _rules("record"), ids=lambda rule: str(rule["record"]))
def test_what_is_recorded_has_data(server: Prometheus, rule: dict[str, Any]) -> None:
    """What is recorded compares series that the demo has; of waiting for a disk, if there was any."""
    found = server.query(_without_conditions(_hurried(rule["expr"])))
    disk = server.query('threadwatch_thread_state_seconds_total{state="disk"}')
    if "disk" not in rule["record"] or disk:
        assert found
    if "disk" not in rule["record"]:
        assert "demo_app" in {result.labels["group"] for result in found}


@pytest.mark.parametrize("rule", _rules("alert"), ids=lambda rule: str(rule["alert"]))
def test_what_alerts_compare_has_data(server: Prometheus, rule: dict[str, Any]) -> None:
    """Each alert's expression is quiet; what it compares, without the comparison, is not empty."""
    recorded = {rule["record"]: f"({_hurried(rule['expr'])})" for rule in _rules("record")}
    expression = _hurried(rule["expr"])
    for name, meaning in reversed(recorded.items()):  # later ones are made of earlier ones
        # a selector or an offset after the name goes to its metric: without them it is the same series
        expression = re.sub(
            rf"{re.escape(name)}({{[^}}]*}})?( offset \d+s)?",
            meaning.replace("\\", r"\\"),
            expression,
        )
    compared = _without_conditions(expression)
    compared = re.sub(r"or absent\(.*\)", "", compared)
    if rule["alert"] == "ThreadwatchDiskWait":
        # healthy threads do not wait for disks: that there are states at all is what can be seen
        compared = compared.replace('state="disk"', 'state="sleep"')
    assert server.query(compared), compared
