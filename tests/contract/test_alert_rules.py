"""The alerts: each explains itself, has its page and its tests, and asks for what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import grafana, promql
from tests.testbed import CHECKOUT
from threadwatch.web import runbooks

RULES = CHECKOUT / "config" / "prometheus" / "rules" / "threadwatch.yml"
RUNBOOKS = CHECKOUT / "docs" / "runbooks"
SCENARIOS = sorted((CHECKOUT / "tests" / "rules").glob("*.yml"))
SECTIONS = [
    "What it means",
    "What to type",
    "What you should see",
    "How to mend it",
    "When it is harmless",
]


def _rules(kind: str) -> list[dict[str, Any]]:
    """Return the rules that ``record`` something, or those that ``alert``."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = _rules("alert")
RECORDED = {rule["record"]: rule["expr"] for rule in _rules("record")}
every_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))


def _page(alert: dict[str, Any]) -> Path:
    """Return the page of an alert, whose address begins with that of a daemon."""
    url = alert["annotations"]["runbook_url"]
    found = re.fullmatch(
        r"http://\{\{ (?:or )?\$labels\.instance (?:`[^`]+` )?\}\}/runbooks/([a-z-]+)", url
    )
    assert found, url
    return RUNBOOKS / f"{found[1]}.md"


@every_alert
def test_alerts_explain_themselves(alert: dict[str, Any]) -> None:
    """Each has a name of ours, a time that it waits, a severity, and says what, where and what to do."""
    assert re.fullmatch(r"Threadwatch[A-Z]\w+", alert["alert"])
    assert re.fullmatch(r"\d+m", alert["for"])
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    notes = alert["annotations"]
    assert sorted(notes) == ["dashboard", "description", "runbook_url", "summary"]
    assert len(notes["summary"]) < 120
    assert "$labels.instance" in notes["summary"]
    assert notes["description"].endswith(".")


@every_alert
def test_alerts_lead_to_a_dashboard(alert: dict[str, Any]) -> None:
    """The path of the dashboard is one of ours, with variables that it has."""
    known = {
        dashboard["uid"]: {variable["name"] for variable in dashboard["templating"]["list"]}
        for dashboard in map(grafana.load, grafana.FILES)
    }
    path, _, query = alert["annotations"]["dashboard"].partition("?")
    assert path.removeprefix("/d/") in known
    chosen = dict(re.findall(r"var-(\w+)=\{\{ \$labels\.(\w+) \| urlquery \}\}", query))
    assert query.count("var-") == len(chosen)
    assert chosen == {name: name for name in chosen}
    assert set(chosen) <= known[path.removeprefix("/d/")]


def test_every_alert_has_a_runbook_and_no_other() -> None:
    """Each alert's page exists, belongs to it alone, and is served; and every page is an alert's, but one."""
    pages = [_page(alert) for alert in ALERTS]
    assert len(set(pages)) == len(pages)
    assert {*pages, RUNBOOKS / "first-steps.md"} == set(RUNBOOKS.glob("*.md"))
    assert {f"/runbooks/{page.stem}" for page in pages} <= set(runbooks.load())


@every_alert
def test_runbooks_say_what_to_do(alert: dict[str, Any]) -> None:
    """A page has the alert's name as its title, and the five sections, with something to type."""
    page = _page(alert).read_text(encoding="utf-8")
    assert page.startswith(f"# {alert['alert']}\n")
    assert re.findall("^## (.+)$", page, re.MULTILINE) == SECTIONS
    typed = page.partition("## What to type")[2].partition("\n## ")[0]
    assert re.search("```(console|promql)\n", typed)
    for section in re.split("^## .+$", page, flags=re.MULTILINE)[1:]:
        assert len(section.strip()) > 60


@every_alert
def test_alerts_are_tested_both_ways(alert: dict[str, Any]) -> None:
    """tests/rules has a scenario in which it fires, and one in which it does not."""
    fires = {
        bool(check.get("exp_alerts"))
        for path in SCENARIOS
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for check in test["alert_rule_test"]
        if check["alertname"] == alert["alert"]
    }
    assert fires == {True, False}


def test_scenarios_name_alerts_that_there_are() -> None:
    """A scenario of an alert that does not exist would pass by itself."""
    names = {
        check["alertname"]
        for path in SCENARIOS
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for check in test["alert_rule_test"]
    }
    assert names == {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize(
    "expression",
    [*RECORDED.values(), *(alert["expr"] for alert in ALERTS)],
    ids=lambda text: text[:50],
)
def test_rules_name_metrics_and_labels_that_there_are(expression: str) -> None:
    """Each metric is ours or recorded, and each label is one that it has."""
    known = promql.known()
    for name, recorded in RECORDED.items():
        (*_, last) = promql.selectors(recorded)
        labels = frozenset().union(
            *(known.get(selector.metric, frozenset()) for selector in promql.selectors(recorded))
        )
        known[name] = labels
        assert last.metric in known
    labels = frozenset()
    for selector in promql.selectors(expression):
        assert selector.metric in known
        assert {name for name, _, _ in selector.matchers} <= known[selector.metric]
        labels |= known[selector.metric]
    assert promql.grouping_labels(expression) <= labels


def test_what_is_recorded_is_used() -> None:
    """Each recorded series has an alert that uses it, itself or by another: none is stored without a use."""
    used: set[str] = set()
    texts = [alert["expr"] for alert in ALERTS]
    while texts:
        asked = {selector.metric for selector in promql.selectors(texts.pop())}
        texts += [RECORDED[name] for name in (asked - used) & set(RECORDED)]
        used |= asked
    assert set(RECORDED) <= used
