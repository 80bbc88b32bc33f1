"""The dashboards: made by their script, valid for Grafana, asking for what there is, and laid out in order.

The rules of grafana/dashboard-linter are tested here under their own names (docs/rules in its repository);
that every query is valid PromQL and has data, tests/service/test_dashboards.py finds from Prometheus.
"""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models import units

from dashboards.grid import Grid
from tests import grafana, promql
from tests.grafana import Expression, Json
from tests.testbed import CHECKOUT
from threadwatch.metrics.families import FAMILIES

DASHBOARDS = {path.stem: grafana.load(path) for path in grafana.FILES}
EXPRESSIONS = grafana.expressions()
UNITS = {value for name, value in vars(units).items() if not name.startswith("_")}

UNUSED: frozenset[str] = frozenset(
    {
        "process_virtual_memory_bytes"  # reserved address space: beside it, memory is a flat line
    }
)
"""Metrics that no dashboard shows, each with a reason beside it."""

every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
every_expression = pytest.mark.parametrize("asked", EXPRESSIONS, ids=str)


def _variable(dashboard: Json, name: str) -> Json:
    found: Json = next(v for v in dashboard["templating"]["list"] if v["name"] == name)
    return found


def test_files_are_what_the_script_makes(tmp_path: Path) -> None:
    """./dev dashboards would change nothing, and leaves no file behind that it does not make."""
    command = (sys.executable, "-m", "dashboards", str(tmp_path))
    subprocess.run(command, cwd=CHECKOUT, check=True, timeout=60)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in grafana.DIRECTORY.iterdir()}


def test_there_are_four() -> None:
    """Fleet, application, GIL, and threadwatch itself."""
    assert sorted(DASHBOARDS) == ["application", "daemon", "fleet", "gil"]


@every_dashboard
def test_grafanas_schema(dashboard: Json) -> None:
    """Grafana's own types have a place for each key and value."""
    assert grafana.faults(dashboard) == []


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("panels", 0, "options", "colourMode"), "value"),
        (("panels", 0, "options", "graphMode"), "lines"),
        (("panels", 0, "gridPos", "w"), "3"),
        (("panels", 10, "fieldConfig", "defaults", "custom", "lineWidth"), "1"),
        (("panels", 13, "transformations", 0, "ident"), "merge"),
        (("templating", "list", 1, "refresh"), 7),
        (("graphTooltip",), 4),
        (("links", 0, "type"), "dashboard"),
    ],
    ids=str,
)
def test_the_schema_finds_faults(where: tuple[Any, ...], value: object) -> None:
    """A misspelt key, a wrong type and an unknown word are found, wherever they are."""
    dashboard = copy.deepcopy(DASHBOARDS["fleet"])
    place = dashboard
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    assert len(grafana.faults(dashboard)) == 1


@every_dashboard
def test_imports_anywhere(dashboard: Json) -> None:
    """Nothing belongs to one Grafana: no id, no version, no data source but the variable's."""
    assert not {"id", "version", "iteration", "gnetId", "__inputs"} & set(dashboard)
    assert dashboard["schemaVersion"] == 39

    def sources(part: object) -> list[object]:
        if isinstance(part, dict):
            own = [part["datasource"]] if "datasource" in part else []
            return own + [found for value in part.values() for found in sources(value)]
        return [found for one in part for found in sources(one)] if isinstance(part, list) else []

    found = sources(dashboard)
    assert len(found) > 10
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in found)
    assert "libraryPanel" not in str(dashboard)


def test_uids_and_titles_are_unique() -> None:
    """Each dashboard has a uid of its own that fits (40 characters), each panel of one an id and a title."""
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch("threadwatch-[a-z]{1,28}", uid) for uid in uids)
    for dashboard in DASHBOARDS.values():
        assert dashboard["title"].startswith("threadwatch / ")
        for what in ("id", "title"):
            values = [panel[what] for panel in grafana.opened(dashboard["panels"])]
            assert len(set(values)) == len(values)


@every_dashboard
def test_crosshair_time_and_links(dashboard: Json) -> None:
    """The crosshair is shared, and all dashboards link to each other, keeping time and variables."""
    assert dashboard["graphTooltip"] == 1
    assert dashboard["tags"] == ["threadwatch"]
    (link,) = dashboard["links"]
    assert (link["type"], link["tags"], link["keepTime"], link["includeVars"]) == (
        "dashboards",
        ["threadwatch"],
        True,
        True,
    )


def test_clicks_lead_to_dashboards_that_there_are() -> None:
    """Each link of a panel leads to one of ours, and sets variables that it has; or to the page of a host."""
    targets = {dashboard["uid"]: dashboard for dashboard in DASHBOARDS.values()}
    links = [
        found
        for dashboard in DASHBOARDS.values()
        for panel in grafana.panels(dashboard)
        for found in re.findall(r"'url': '([^']+)'", str(panel["fieldConfig"]))
    ]
    pages = [link for link in links if link.startswith("http")]
    assert set(pages) == {
        "http://${__data.fields.instance}/",
        "http://${__field.labels.instance}/",
    }
    assert len(links) - len(pages) >= 8
    for link in set(links) - set(pages):
        match = re.fullmatch(r"/d/([\w-]+)\?(.+)", link)
        assert match, link
        known = {variable["name"] for variable in targets[match[1]]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", match[2])) <= known
        assert "${__url_time_range}" in match[2]
        assert {"${datasource:queryparam}", "${job:queryparam}"} <= set(match[2].split("&"))
        assert "instance" in match[2]


@every_dashboard
@pytest.mark.parametrize("state", ["as it is", "opened"])
def test_the_grid_is_full_and_nothing_overlaps(dashboard: Json, state: str) -> None:
    """Every cell of the 24 columns belongs to just one panel, down to the last line; sizes can be read."""
    panels = dashboard["panels"] if state == "as it is" else grafana.opened(dashboard["panels"])
    cells: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in cells, f"{panel['title']} lies on {cells[x, y]}"
                cells[x, y] = panel["title"]
        low = {"row": (24, 1), "stat": (3, 4), "timeseries": (6, 6), "table": (6, 6)}
        width, height = low.get(panel["type"], (24, 10))
        assert place["w"] >= width
        assert place["h"] >= height
    bottom = max(y for _, y in cells) + 1
    assert len(cells) == 24 * bottom


def test_a_line_that_is_not_full_is_refused() -> None:
    """Panels that leave columns free are an error of the script."""
    with pytest.raises(ValueError, match=r"\['a', 'b'\] do not fill 24 columns"):
        Grid().line(4, ({"title": "a"}, 12), ({"title": "b"}, 11))


@every_dashboard
def test_template_datasource_rule(dashboard: Json) -> None:
    """There is one data source variable, called datasource and labelled so, for Prometheus."""
    (source,) = (v for v in dashboard["templating"]["list"] if v["type"] == "datasource")
    assert (source["name"], source["label"]) == ("datasource", "Data source")
    assert source["query"] == "prometheus"


@every_dashboard
@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_and_instance_rules(dashboard: Json, name: str) -> None:
    """Job and instance are variables of the data source, several can be chosen, ``.+`` is all of them."""
    variable = _variable(dashboard, name)
    assert (variable["type"], variable["label"]) == ("query", name)
    assert variable["datasource"]["uid"] == "${datasource}"
    assert variable["multi"] is True
    assert variable["allValue"] == ".+"


@every_dashboard
def test_template_on_time_change_reload_rule(dashboard: Json) -> None:
    """Variables are asked for again when the time range changes."""
    asking = [v for v in dashboard["templating"]["list"] if v["type"] == "query"]
    assert len(asking) >= 2
    assert {variable["refresh"] for variable in asking} == {2}


@every_dashboard
def test_variables_are_chained_and_used(dashboard: Json) -> None:
    """Each variable asks for its label among what those before it leave, and some query uses it."""
    asking = grafana.queries_of_variables(dashboard)
    order = list(asking)
    assert order == ["job", "instance", "group", "thread"][: len(order)]
    texts = " ".join(
        query["expr"] for panel in grafana.panels(dashboard) for query in panel["targets"]
    )
    for place, (name, (selector, label)) in enumerate(asking.items()):
        assert label == name
        assert set(re.findall(r"\$(\w+)", selector)) == set(order[:place])
        assert f"${name}" in texts


@every_dashboard
def test_variables_are_matched_as_they_are_escaped(dashboard: Json) -> None:
    """Grafana escapes several values for =~, and a single one for =: each is compared accordingly."""
    several = {v["name"]: v["multi"] for v in dashboard["templating"]["list"]}
    texts = [query["expr"] for panel in grafana.panels(dashboard) for query in panel["targets"]]
    texts += [selector for selector, _ in grafana.queries_of_variables(dashboard).values()]
    for text in texts:
        for selector in promql.selectors(text):
            for _, operator, value in selector.matchers:
                if value.startswith("$"):
                    assert operator == ("=~" if several[value[1:]] else "="), text


@every_dashboard
def test_panel_rules(dashboard: Json) -> None:
    """Each panel has the variable's data source, a title, a description in sentences, queries and a unit.

    The rules panel-datasource, panel-title-description, panel-no-targets and panel-units, for all kinds.
    """
    for panel in grafana.panels(dashboard):
        assert panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert re.fullmatch(r"[A-Z0-9(].{15,}\.", panel["description"], re.DOTALL), panel["title"]
        assert panel["targets"]
        described = [panel["fieldConfig"]["defaults"]["unit"]] + [
            each["value"]
            for override in panel["fieldConfig"]["overrides"]
            for each in override["properties"]
            if each["id"] == "unit"
        ]
        assert set(described) <= UNITS, panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"]


@every_dashboard
def test_a_dashboard_can_be_edited(dashboard: Json) -> None:
    """A person can look at a query, change it, and save a copy: unlike the linter's rule would have it."""
    assert dashboard["editable"] is True


@every_dashboard
def test_events_are_of_the_chosen(dashboard: Json) -> None:
    """Alerts and restarts are marked in each graph, of the chosen jobs and instances, and named."""
    marked = {event["name"]: event for event in grafana.events(dashboard)}
    assert {"Alerts", "threadwatch started"} <= set(marked)
    for event in marked.values():
        assert event["titleFormat"]
        assert 'job=~"$job", instance=~"$instance"' in event["expr"]


@every_expression
def test_target_job_and_instance_rules(asked: Expression) -> None:
    """Each selector is limited to the chosen jobs and instances."""
    found = list(promql.selectors(asked.text))
    assert found
    for selector in found:
        assert ("job", "=~", "$job") in selector.matchers
        assert ("instance", "=~", "$instance") in selector.matchers


@every_expression
def test_target_rate_interval_and_counter_rules(asked: Expression) -> None:
    """Counters are in rate(), over $__rate_interval, and nothing else is in it.

    To choose the series of a graph, in topk(), it is over all that is shown: they are the same at each point.
    So is max_over_time(), to choose by what is no counter.
    """
    counters = {family.name for family in FAMILIES if family.type == "counter"}
    counters |= {name for name in promql.known() if name.endswith(("_bucket", "_sum", "_count"))}
    for selector in promql.selectors(asked.text):
        before, after = asked.text[: selector.start], asked.text[selector.end :]
        rated = before.endswith("rate(")
        assert rated == (selector.metric in counters)
        largest = before.endswith("max_over_time(")
        chooses = not asked.instant and re.search(r"topk\(\d+, ", before) is not None
        assert chooses or not largest
        over = "[$__range] @ end())" if chooses else "[$__rate_interval])"
        assert after.startswith(over) == (rated or largest)
        # whether a host had a threadwatch is asked of a day, whatever the graph shows
        assert after.startswith("[1d]") == before.endswith("last_over_time(")


@every_expression
def test_series_that_every_exporter_has_are_of_ours_alone(asked: Expression) -> None:
    """Should all jobs be chosen, up and process_* of other exporters are left out."""
    for selector in promql.selectors(asked.text):
        if not selector.metric.startswith("threadwatch_"):
            after = asked.text[selector.end :].removeprefix("[$__rate_interval])")
            after = after.removeprefix("[$__range] @ end())")  # it chooses what is shown
            before = asked.text[: selector.start]
            assert after.startswith(" and on (job, instance) last_over_time(threadwatch_") or (
                before.endswith("/ on (job, instance) ")
            )


@every_expression
def test_queries_name_metrics_and_labels_that_there_are(asked: Expression) -> None:
    """Each metric is one of docs/metrics.md, each label one of its own, and so in legends."""
    known = promql.known()
    labels: set[str] = set()
    for selector in promql.selectors(asked.text):
        assert selector.metric in known
        assert {name for name, _, _ in selector.matchers} <= known[selector.metric]
        labels |= known[selector.metric]
    assert promql.grouping_labels(asked.text) <= labels
    names = set(re.findall(r"\b[a-z]+_[a-z_]+(?=\{)", asked.text))
    assert names <= set(known)


@every_dashboard
def test_legends_and_columns_name_labels_of_their_queries(dashboard: Json) -> None:
    """What a legend puts in, or a table shows or hides, is a label that the query's answer has."""
    for panel in grafana.panels(dashboard):
        for query in panel["targets"]:
            kept = promql.grouping_labels(query["expr"])
            legend = set(re.findall(r"{{(\w+)}}", query["legendFormat"]))
            if kept:
                assert legend <= kept, panel["title"]
            else:
                assert legend <= {"job", "instance"}, panel["title"]
        for transformation in panel.get("transformations", []):
            if transformation["id"] == "organize":
                shown = set(transformation["options"]["indexByName"])
                values = {name for name in shown if name.startswith("Value")}
                letters = [query["refId"] for query in panel["targets"]]
                single = len(letters) == 1
                assert values == ({"Value"} if single else {f"Value #{one}" for one in letters})


def test_a_fleet_of_thousands_fits() -> None:
    """Each query of the fleet, and of its events, is one number, or is cut down to the series with most.

    How many series the answers have, tests/service/test_fleet.py finds from Prometheus.
    """
    asked = [query.text for query in EXPRESSIONS if query.dashboard == "fleet"]
    asked += [event["expr"] for event in grafana.events(DASHBOARDS["fleet"])]
    assert len(asked) > 25
    unbounded = [
        text for text in asked if "topk" not in text and not re.match(r"(sum|count) ?\(", text)
    ]
    assert unbounded == []


def test_every_metric_is_on_a_dashboard() -> None:
    """Each metric of docs/metrics.md is shown somewhere, or listed as unused; none is both."""
    shown = {selector.metric for asked in EXPRESSIONS for selector in promql.selectors(asked.text)}
    histograms = "|".join(family.name for family in FAMILIES if family.type == "histogram")
    shown = {re.sub(f"({histograms})_(bucket|sum|count)", r"\1", m) for m in shown}
    assert {family.name for family in FAMILIES} - shown == UNUSED


def test_every_state_has_a_colour() -> None:
    """The states of the graphs are those that docs/metrics.md lists, in the timeline's colours."""
    page = (CHECKOUT / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = page.partition("| state | |")[2].partition("\n\n")[0]
    documented = {
        state
        for line in table.splitlines()
        if line.startswith("| `")
        for state in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    panels = {panel["title"]: panel for panel in grafana.panels(DASHBOARDS["application"])}
    (mapping,) = panels["What each thread mostly does"]["fieldConfig"]["defaults"]["mappings"]
    timeline = {shown["text"]: shown["color"] for shown in mapping["options"].values()}
    areas = {
        override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
        for override in panels["Where the time goes"]["fieldConfig"]["overrides"]
        if override["matcher"]["id"] == "byName"
    }
    assert set(timeline) == documented
    assert timeline == areas
    assert len(set(timeline.values())) == len(timeline)


def test_provisioning_finds_the_dashboards() -> None:
    """The provisioning files have the form that Grafana reads; they name a Prometheus and a directory."""
    directory = CHECKOUT / "config" / "grafana" / "provisioning"
    sources = yaml.safe_load((directory / "datasources" / "threadwatch.yml").read_text())
    providers = yaml.safe_load((directory / "dashboards" / "threadwatch.yml").read_text())
    assert sources["apiVersion"] == providers["apiVersion"] == 1
    (source,) = sources["datasources"]
    assert source["type"] == "prometheus"
    assert re.fullmatch(r"http://[\w.]+:\d+", source["url"])
    (provider,) = providers["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/")
