"""docs/metrics.md and the exporter say the same."""

from __future__ import annotations

import re

import pytest

from tests import views
from tests.testbed import CHECKOUT
from threadwatch.metrics.collector import collect
from threadwatch.metrics.families import FAMILIES, Family
from threadwatch.metrics.own_process import OwnProcess

PAGE = (CHECKOUT / "docs" / "metrics.md").read_text(encoding="utf-8")
ENTRY = re.compile(
    r"^### `(?P<name>\w+)`\n\n"
    r"\*(?P<type>\w+)\* · labels: (?P<labels>[\w, ?]+) · unit: (?P<unit>\w+)\n\n"
    r"(?P<text>.*?)(?=^##|\Z)",
    re.MULTILINE | re.DOTALL,
)
ENTRIES = {match["name"]: match for match in ENTRY.finditer(PAGE)}


def test_every_metric_is_documented_and_no_other() -> None:
    """Each family has an entry of the given form, and each heading of that level is one."""
    assert list(ENTRIES) == re.findall("^### `?(.*?)`?$", PAGE, re.MULTILINE)
    assert sorted(ENTRIES) == sorted(family.name for family in FAMILIES)


def test_everything_that_is_exposed_is_in_the_list_of_families() -> None:
    """A view that has everything, and the process, give the families of the list and no others."""
    exposed = [metric.name for metric in (*collect(views.sample()), *OwnProcess().collect())]
    assert exposed == [family.metric().name for family in FAMILIES]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_entries_have_type_labels_and_unit(family: Family) -> None:
    """An entry's first line says what the exporter says."""
    entry = ENTRIES[family.name]
    assert entry["type"] == family.type
    assert entry["unit"] == (family.unit or "none")
    labels = [] if entry["labels"] == "none" else entry["labels"].split(", ")
    assert sorted(label.rstrip("?") for label in labels) == sorted(family.labels)
    optional = {label for label in labels if label.endswith("?")}
    per_thread = (
        family.name.startswith(
            ("threadwatch_thread", "threadwatch_gil", "threadwatch_task", "threadwatch_loop")
        )
        and not family.name.startswith("threadwatch_tables")
        and family.name != "threadwatch_thread_info"
    )
    assert optional == ({"pid?", "tid?"} if per_thread else set())


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=list(ENTRIES))
def test_entries_have_an_example_that_uses_the_metric(entry: re.Match[str]) -> None:
    """Each entry explains, and ends with a query on its own metric."""
    explanation, *queries = re.split("```promql\n", entry["text"])
    assert len(explanation) > 30
    assert queries
    assert all(query.rstrip().endswith("```") for query in queries)
    assert any(entry["name"] in query for query in queries)


def test_named_metrics_exist() -> None:
    """No text and no query of the page names a metric that there is not."""
    known = {family.name for family in FAMILIES}
    known |= {f"{family.name}_bucket" for family in FAMILIES if family.type == "histogram"}
    assert set(re.findall(r"\b(?:threadwatch|process)_\w+\w", PAGE)) - {"process_"} <= known


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_help_says_what_a_reader_needs(family: Family) -> None:
    """A HELP text is one line, whole sentences, and names its unit; what is sampled says how often."""
    assert "\n" not in family.help
    assert family.help.endswith(".")
    if family.unit:
        assert family.unit in family.help
        assert family.name.removesuffix("_total").endswith(f"_{family.unit}")
    if family.labels[:1] == ("group",) and family.name != "threadwatch_series_dropped_total":
        assert "poll_interval" in family.help
