"""What the collector makes of a View."""

from __future__ import annotations

import json
import platform
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import threadwatch
from tests import views
from tests.golden import regenerate
from threadwatch.metrics import families
from threadwatch.metrics.collector import BuildInfo, collect, installed_revision
from threadwatch.model.keys import SeriesKey
from threadwatch.model.view import POLL_BUCKETS, StateTime, Stats, View

NS = 1_000_000_000


def values(view: View | None, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of that name, by their label values in order of the labels' names."""
    metrics = collect(view, regenerate.BUILD)
    samples = [sample for metric in metrics for sample in metric.samples if sample.name == name]
    return {tuple(v for _, v in sorted(s.labels.items())): s.value for s in samples}


def one_thread(**totals: object) -> View:
    """Return a view of one thread, called t in the group g."""
    return views.view(views.group("g", {SeriesKey("t"): views.thread_totals(**totals)}))


@pytest.mark.parametrize("path", regenerate.FILES, ids=lambda path: path.name)
def test_golden_exposition(path: Path) -> None:
    """The sample view is exposed as the golden file says, byte for byte."""
    assert regenerate.exposition(regenerate.FILES[path]) == path.read_bytes()


def test_families_come_in_their_order_with_their_labels() -> None:
    """collect() gives the families of the list, in its order, with no label that they do not name."""
    metrics = list(collect(views.sample()))
    elsewhere = ("process_", families.HOST_CPUS.name)
    expected = [family for family in families.FAMILIES if not family.name.startswith(elsewhere)]
    assert [m.name for m in metrics] == [family.metric().name for family in expected]
    for metric, family in zip(metrics, expected, strict=True):
        assert (metric.type, metric.documentation) == (family.type, family.help)
        used = {label for sample in metric.samples for label in sample.labels} - {"le"}
        assert used == set(family.labels)


def test_collect_gives_new_families_each_time() -> None:
    """What a caller does to the families changes nothing for the next one."""
    first = next(collect(views.sample()))
    first.samples.clear()
    assert next(collect(views.sample())).samples


OPTIONAL = {
    "runqueue_ns": "threadwatch_thread_runqueue_wait_seconds_total",
    "timeslices": "threadwatch_thread_timeslices_total",
    "voluntary_switches": "threadwatch_thread_context_switches_total",
    "involuntary_switches": "threadwatch_thread_context_switches_total",
    "read_bytes": "threadwatch_thread_io_bytes_total",
    "write_bytes": "threadwatch_thread_io_bytes_total",
}


@pytest.mark.parametrize(("field", "name"), OPTIONAL.items())
def test_what_was_not_read_is_absent(field: str, name: str) -> None:
    """None makes no series, not one of 0, and a family without series is left out whole; 0 makes one."""
    assert name not in {m.name + "_total" for m in collect(one_thread())}
    assert list(values(one_thread(**{field: 0}), name).values()) == [0]


def test_cpu_seconds_are_nanoseconds_divided_once() -> None:
    """CPU time is in seconds by mode, exact as far as a float goes."""
    view = one_thread(user_ns=1_234_567_890_123_456, system_ns=1)
    assert values(view, "threadwatch_thread_cpu_seconds_total") == {
        ("g", "user", "t"): 1234567.890123456,
        ("g", "system", "t"): 1e-9,
    }


@given(st.integers(0, 2**64), st.integers(0, 2**64))
def test_exposed_counters_do_not_fall_while_totals_grow(one: int, other: int) -> None:
    """Rounding to a float keeps the order of totals, however large they are."""
    less, more = (
        values(one_thread(user_ns=ns), "threadwatch_thread_cpu_seconds_total")["g", "user", "t"]
        for ns in sorted((one, other))
    )
    assert less <= more


@given(st.integers(0, 2**23 * NS))
def test_exposed_seconds_lose_nothing_for_97_days(ns: int) -> None:
    """Up to 2**23 s, every nanosecond can be read back from what is exposed."""
    seconds = values(one_thread(user_ns=ns), "threadwatch_thread_cpu_seconds_total")[
        "g", "user", "t"
    ]
    assert round(Fraction(seconds) * NS) == ns


def test_time_in_a_state_counts_up_to_the_view() -> None:
    """Threads that stay in a state gain time with the view's clock, without the totals being touched."""
    states = {
        "sleeping": StateTime(threads=3, total_ns=5 * NS, since_ns=views.NOW_NS - 2 * NS),
        "running": StateTime(threads=0, total_ns=NS, since_ns=0),
    }
    view = one_thread(states=states, now={"sleeping": 3, "running": 0})
    assert values(view, "threadwatch_thread_state_seconds_total") == {
        ("g", "sleeping", "t"): 11.0,
        ("g", "running", "t"): 1.0,
    }
    assert values(view, "threadwatch_threads") == {
        ("g", "sleeping", "t"): 3,
        ("g", "running", "t"): 0,
    }


def test_pid_and_tid_are_labels_only_where_the_key_has_them() -> None:
    """A series has pid and tid if its group tells processes or threads apart, and else not."""
    name = "threadwatch_threads_started_total"
    keys = SeriesKey("t"), SeriesKey("t", pid=1), SeriesKey("t", pid=1, tid=2)
    view = views.view(views.group("g", dict.fromkeys(keys, views.thread_totals())))
    samples = [s for metric in collect(view) for s in metric.samples if s.name == name]
    assert [s.labels for s in samples] == [
        {"group": "g", "thread": "t"},
        {"group": "g", "thread": "t", "pid": "1"},
        {"group": "g", "thread": "t", "pid": "1", "tid": "2"},
    ]


def test_groups_are_exposed_even_without_threads() -> None:
    """A group whose processes are gone still has its CPU time and a count of 0."""
    view = views.view(
        views.group("g", {}, cpu_ns=NS, processes=0, pythons={}, dropped=7, foldable_names=11)
    )
    assert values(view, "threadwatch_group_cpu_seconds_total") == {("g",): 1.0}
    assert values(view, "threadwatch_group_processes") == {("g",): 0}
    assert values(view, "threadwatch_group_published_processes") == {("g",): 0}
    assert values(view, "threadwatch_series_dropped_total") == {("g",): 7}
    assert values(view, "threadwatch_group_foldable_names") == {("g",): 11}


@pytest.mark.parametrize("wanted", [False, True])
def test_thread_info_is_exposed_only_if_configured(wanted: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """One series for each thread where the configuration asks for it, and none elsewhere."""
    view = views.view(processes=(views.process(7, "g", (7, "main"), (8, "w")),), thread_info=wanted)
    found = values(view, "threadwatch_thread_info")
    keys = [
        ("python3", "g", name, "7", "published", name, str(tid))
        for tid, name in ((7, "main"), (8, "w"))
    ]
    assert found == (dict.fromkeys(keys, 1) if wanted else {})


def test_poll_durations_become_a_cumulative_histogram() -> None:
    """Each bucket counts the polls that took at most as long as its bound."""
    durations = (1, 2, 3, *(0 for _ in POLL_BUCKETS[3:]), 4)
    view = views.view(stats=Stats(polls=10, poll_durations=durations, poll_duration_ns=5 * NS))
    buckets = values(view, "threadwatch_poll_duration_seconds_bucket")
    assert [buckets[bound,] for bound in ("0.001", "0.0025", "0.005", "0.01", "2.5", "+Inf")] == [
        1,
        3,
        6,
        6,
        6,
        10,
    ]
    assert values(view, "threadwatch_poll_duration_seconds_count") == {(): 10}
    assert values(view, "threadwatch_poll_duration_seconds_sum") == {(): 5.0}


def test_no_poll_yet_makes_an_empty_histogram() -> None:
    """Statistics without any poll have all buckets, at 0."""
    buckets = values(views.view(stats=Stats()), "threadwatch_poll_duration_seconds_bucket")
    assert list(buckets.values()) == [0] * (len(POLL_BUCKETS) + 1)


def test_read_errors_come_by_source_and_reason() -> None:
    """Each kind of error that was counted is a series; without errors there is none."""
    name = "threadwatch_read_errors_total"
    view = views.view(stats=Stats(read_errors={("table", "malformed"): 2, ("fd", "denied"): 3}))
    assert values(view, name) == {("denied", "fd"): 3, ("malformed", "table"): 2}
    assert values(views.view(), name) == {}


def test_reload_result_is_exposed() -> None:
    """A bad configuration shows as 0, beside the time of the last good one."""
    view = views.view(stats=Stats(reload_successful=False, reload_success_time=123.5))
    assert values(view, "threadwatch_config_last_reload_successful") == {(): 0}
    assert values(view, "threadwatch_config_last_reload_success_timestamp_seconds") == {(): 123.5}


def test_before_the_first_poll_only_the_build_is_known() -> None:
    """Without a view there is build information, and no counter that would look like one at 0."""
    assert [metric.name for metric in collect(None)] == ["threadwatch_build"]


def test_build_info_names_version_and_python() -> None:
    """The build information is of the package and the interpreter that run."""
    build = BuildInfo.current()
    assert build.version == threadwatch.__version__
    assert build.pythonversion == platform.python_version()


def test_build_info_has_the_commit_of_an_install_from_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The revision is what the installer recorded; without a record what the environment says, or empty."""
    monkeypatch.delenv("THREADWATCH_REVISION", raising=False)
    installed = tmp_path / "prometheus_threadwatch-9.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: prometheus-threadwatch\nVersion: 9\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_revision() == ""
    record = {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}}
    (installed / "direct_url.json").write_text(json.dumps(record))
    assert installed_revision() == "abc123"
    monkeypatch.setenv("THREADWATCH_REVISION", "def456")
    assert installed_revision() == "abc123"
    (installed / "direct_url.json").write_text("{")
    assert installed_revision() == "def456"


def test_series_are_never_exposed_twice() -> None:
    """No two samples have the same name and labels, hostile names included."""
    samples = [s for metric in collect(views.hostile()) for s in metric.samples]
    assert len({(s.name, *sorted(s.labels.items())) for s in samples}) == len(samples)
