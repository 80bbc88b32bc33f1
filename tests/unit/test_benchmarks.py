"""The arithmetic, the tables and the plot of the benchmarks; nothing is timed here."""

from __future__ import annotations

import math
import random
import statistics
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.agreement import Shares, differ
from benchmarks.estimate import differences, estimate, percentile, ratios
from benchmarks.harm import NONE, Block, Measured, throughput
from benchmarks.observers import profiler_counts, py_spy_counts
from benchmarks.page import updated
from benchmarks.report import Result, Table, against, as_markdown, as_text
from benchmarks.svg import Line, Panel, axis, plot, spread

FLOATS = st.floats(-1e9, 1e9)


@given(st.lists(FLOATS, min_size=1))
def test_an_estimate_lies_within_its_interval(values: list[float]) -> None:
    """The median is that of the statistics module, and between two of the values."""
    found = estimate(values)
    assert found.median == pytest.approx(statistics.median(values), rel=1e-12, abs=1e-6)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert {found.low, found.high} <= set(values)
    assert found.count == len(values)


@pytest.mark.parametrize(
    ("count", "left_out"),
    [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (20, 5), (100, 39), (5000, 2430)],
)
def test_the_interval_is_the_binomial_one(count: int, left_out: int) -> None:
    """As many values lie outside on each side as tables of the sign test give for 95 %."""
    found = estimate(list(range(count)))
    assert (found.low, found.high) == (left_out, count - 1 - left_out)


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    """Of a thousand samples from a skewed distribution, about 95 % have an interval with its median in it."""
    generator = random.Random(1)
    samples = ([generator.expovariate(1) for _ in range(25)] for _ in range(1000))
    true = 0.6931471805599453
    held = sum(found.low <= true <= found.high for found in map(estimate, samples))
    assert 935 <= held <= 1000


def test_nothing_has_no_median() -> None:
    """An estimate or a percentile of no values is refused."""
    with pytest.raises(ValueError, match="no values"):
        estimate([])
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50.5), (99, 99), (100, 100), (1, 1), (0, 1)]
)
def test_percentiles(percent: float, expected: float) -> None:
    """This percentage of the values is not above it."""
    assert percentile([*range(100, 0, -1)], percent) == expected


def test_pairs_must_be_pairs() -> None:
    """Ratios and differences go pair by pair, and a value without its partner is refused."""
    assert ratios([3, 8], [2, 4]) == [1.5, 2]
    assert differences([3, 8], [2, 4]) == [1, 4]
    with pytest.raises(ValueError, match="zip"):
        ratios([1, 2], [1])


RESULT = Result(
    "name",
    "What it is.",
    (Table("a title", ("load", "CPU | real"), (("first", "1"), ("second", "22")), ("A note.",)),),
    {},
    ("a thing: not there",),
)


def test_a_result_as_text() -> None:
    """Columns stand under each other, numbers to the right; what is missing is said."""
    text = as_text(RESULT)
    assert "load    CPU | real\nfirst            1\nsecond          22\n  A note.\n" in text
    assert text.endswith("not measured: a thing: not there\n")


def test_a_result_as_markdown() -> None:
    """A pipe in a cell is escaped, and every row has as many cells as the header."""
    section = as_markdown(RESULT, "Measured today.", "plot.svg")
    assert section.startswith("## name\n\nWhat it is.\n\nMeasured today.\n\n")
    assert "| load | CPU \\| real |\n| --- | ---: |\n| first | 1 |\n| second | 22 |" in section
    assert "Not measured: a thing: not there" in section
    assert "plot.svg" not in section


def test_a_page_keeps_what_was_not_measured_anew() -> None:
    """A section replaces its like; the others stay, in the order of the benchmarks."""
    order = ("one", "two", "three")
    page = updated("", "two", "## two\n\nOld.\n\n### a table\n", order)
    page = updated(page, "one", "## one\n\nFirst.\n", order)
    page = updated(page, "two", "## two\n\nNew.\n", order)
    assert page.startswith("# Benchmarks\n")
    assert page.endswith("## one\n\nFirst.\n\n## two\n\nNew.\n")
    assert page.count("\n## ") == 2


def test_a_goal_is_met_up_to_its_very_value() -> None:
    """Whether a goal was met or missed stands behind the value; without a goal, nothing does."""
    assert against(1.5, 1.5) == " (goal 1.5: met)"
    assert against(1.51, 1.5) == " (goal 1.5: missed)"
    assert against(1.5, None) == ""


def test_what_py_spy_has_seen() -> None:
    """Samples add up by the thread's name, whatever the name has in it; other lines are no samples."""
    profile = (
        "thread (71): pool 1 (a b);run (t.py:1);work (t.py:2) 10\n"
        "thread (71): pool 1 (a b);run (t.py:1) 5\n"
        "thread (0x7F12): other;run (t.py:1) 1\n"
        "thread (71): no frames 3\nnonsense\n"
    )
    assert py_spy_counts(profile) == {"pool 1 (a b)": 15, "other": 1}
    assert py_spy_counts("") == {}


def test_what_the_profiler_has_seen() -> None:
    """Samples add up by TID."""
    profile = "tid:71;t.py:run:1;t.py:work:2 10\ntid:71;t.py:run:1 5\ntid:72;t.py:run:1 1\n"
    assert profiler_counts(profile) == {"71": 15, "72": 1}


def test_differences_are_in_standard_errors() -> None:
    """Two shares that are sampled have both their errors; what is measured has none."""
    ours, peer = Shares({"a": 0.5, "b": 0.5}, 100), Shares({"a": 0.6, "b": 0.4}, 100)
    truth = Shares({"a": 0.5, "b": 0.5}, math.inf)
    assert ours.error("a") == pytest.approx(0.05)
    assert truth.error("a") == 0
    assert differ(ours, truth, "a") == 0
    assert differ(peer, truth, "a") == pytest.approx(0.1 / math.sqrt(0.6 * 0.4 / 100))
    assert differ(ours, peer, "a") == pytest.approx(-0.1 / math.sqrt(0.25 / 100 + 0.24 / 100))


def test_throughput_is_compared_within_a_round() -> None:
    """A block is divided by the one without an observer of its own round; rounds without it are out."""

    def block(rate: float) -> Block:
        return Block({"work": rate}, {"work": 2 * rate}, 0.1)

    plain = {0: block(10), 1: block(100), 2: block(50)}
    measured = Measured({NONE: plain, "it": {0: block(9), 2: block(45)}})
    assert throughput(measured, "it", "work").median == pytest.approx(0.9)
    assert throughput(measured, "it", "work", by_cpu=True).count == 2


def test_the_scale_is_logarithmic() -> None:
    """A decade is as long everywhere; 0 has its place at the start."""
    scale = axis([0, 10, 100, 1000], 0, 300)
    assert [scale.at(value) for value in (0, 10, 100, 1000)] == [0, 100, 200, 300]


@given(st.lists(st.floats(0.001, 1e6), min_size=1))
def test_all_values_are_on_the_scale(values: list[float]) -> None:
    """Every value lies between the ends, and it takes no more than a decade too much at each."""
    scale = axis(values, 0, 100)
    assert 10.0**scale.low <= min(values) * (1 + 1e-9)
    assert 10.0**scale.high * (1 + 1e-9) >= max(values)
    assert scale.high <= max(scale.low + 1, 1 + math.log10(max(values)) + 1e-9)


@given(st.lists(st.floats(0, 500), max_size=12))
def test_labels_do_not_overlap(places: list[float]) -> None:
    """Labels keep their order, are far enough from each other, and only ever move down."""
    moved = spread(places, 13)
    assert all(after >= before for before, after in zip(places, moved, strict=True))
    ordered = sorted(moved)
    assert all(b - a >= 13 - 1e-9 for a, b in pairwise(ordered))


def test_the_plot_is_a_whole_svg() -> None:
    """Every point of every line is in it, with what it says; names are escaped."""
    lines = (Line("ours, <fast>", ((1, 0.5), (1000, 2))), Line("theirs", ((1, 50), (1000, 5000))))
    root = ET.fromstring(plot([Panel("A", "x", lines), Panel("B", "x", lines)], "ms"))  # noqa: S314  # our own
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert names.count("circle") == 8
    assert "ours, <fast>: 0.50 ms at 1" in {"".join(element.itertext()) for element in root.iter()}
