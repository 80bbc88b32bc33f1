"""The two formats as bytes, which client gets which, and what rendering costs."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from benchmarks.encoding import theirs
from tests import views
from threadwatch.metrics.collector import collect
from threadwatch.metrics.exporter import Exporter
from threadwatch.metrics.exposition import Format, accepts_gzip, encode, negotiate
from threadwatch.model.keys import SeriesKey
from threadwatch.model.view import View

ASKS_OPENMETRICS = "application/openmetrics-text"
PARSERS = {Format.TEXT: parse_text, Format.OPENMETRICS: parse_openmetrics}
SIZE = 10_000
"""Samples of the large view."""


def _cpu_seconds(function: Callable[[], object], *, of: int) -> float:
    """Return the least CPU time of ``of`` calls."""
    times = []
    for _ in range(of):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return min(times)


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("view", [views.sample(), views.hostile()], ids=["sample", "hostile"])
def test_encoding_is_prometheus_clients(view: View, form: Format) -> None:
    """Our encoder gives prometheus_client's bytes, hostile names included."""
    metrics = list(collect(view))
    assert encode(metrics, form) == theirs(metrics, form)


@pytest.mark.parametrize(
    "value", [0.0, 1e-9, 1e6, 1234567.5, 1e16, 2.0**63, float("inf"), float("nan"), 3]
)
def test_numbers_are_written_as_prometheus_client_writes_them(value: float) -> None:
    """Large, small and special values have prometheus_client's spelling."""
    metric = Metric("m", "help", "gauge")
    metric.add_sample("m", {}, value)
    for form in Format:
        assert encode([metric], form) == theirs([metric], form)


def _names(view: View, form: Format) -> list[str]:
    """Return the thread names that a parser reads from what is exposed of the view."""
    families = PARSERS[form](encode(collect(view), form).decode())  # type: ignore[no-untyped-call]  # has no types
    found = [sample for family in families for sample in family.samples]
    return [s.labels["thread"] for s in found if s.name == "threadwatch_threads_started_total"]


@pytest.mark.parametrize("form", Format)
def test_hostile_names_come_back_from_the_parsers(form: Format) -> None:
    """prometheus_client's parsers read back exactly the names that threads have."""
    keys = {SeriesKey(name): views.thread_totals() for name in views.HOSTILE}
    assert _names(views.view(views.group("g", keys)), form) == list(views.HOSTILE)


@pytest.mark.parametrize("form", Format)
@given(names=st.lists(st.text(), unique=True, max_size=5))
def test_any_name_comes_back_from_the_parsers(form: Format, names: list[str]) -> None:
    """Whatever text threads are called by, the parsers read back exactly that."""
    keys = {SeriesKey(name): views.thread_totals() for name in names}
    assert _names(views.view(views.group("g", keys)), form) == names


@pytest.mark.parametrize("form", Format)
def test_names_that_are_not_unicode_are_spelled_out(form: Format) -> None:
    """Lone surrogates, which UTF-8 cannot hold, appear as backslash sequences and break nothing."""
    keys = {SeriesKey(views.SURROGATES): views.thread_totals()}
    assert _names(views.view(views.group("g", keys)), form) == [r"\udc80\ud800"]


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_2,
        PROMETHEUS_3,
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        'application/openmetrics-text; version="1.0.0"',
        "APPLICATION/OpenMetrics-Text; Version=1.0.0",
        "application/openmetrics-text;q=0.1",
        "application/openmetrics-text, text/plain",
        "text/plain;q=0.5,application/openmetrics-text;q=0.5",
        "text/plain;q=0.1, */*, application/openmetrics-text;q=0.2",
        "text/plain;q=0, application/openmetrics-text;q=0.1",
        "nonsense;;;=,application/openmetrics-text",
    ],
)
def test_openmetrics_goes_to_who_asks_for_it(accept: str) -> None:
    """OpenMetrics 1.0.0 is served where it is named and weighs no less than plain text."""
    assert negotiate(accept) is Format.OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "text/plain",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "application/*",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.4, text/plain;q=0.5",
        "application/openmetrics-text;q=0.4, */*",
        "application/openmetrics-text;q=0.4, text/*;q=0.5",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;version=1.0.0x",
        "application/openmetrics-text;version=1.a.0,text/plain",
        "application/openmetrics-text;q=high",
        "application/openmetrics-text;q=",
        "application/openmetrics-text;q=nan",
        "application/openmetrics-text;q=2",
        "application/openmetrics-text;q=-1",
        "application/openmetrics-textual",
        ",;=,;q",
        "\xff\x00\"'",
    ],
)
def test_everyone_else_gets_plain_text(accept: str | None) -> None:
    """No header, one that prefers something else, or one that makes no sense: plain text."""
    assert negotiate(accept) is Format.TEXT


@pytest.mark.parametrize(
    "header", ["gzip", "GZip", "deflate, gzip;q=0.5", "x-gzip", "*", "gzip;q=1.0, identity;q=0.5"]
)
def test_gzip_goes_to_who_takes_it(header: str) -> None:
    """Compression is used where it is named or everything is welcome."""
    assert accepts_gzip(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "identity",
        "deflate, br",
        "gzip;q=0",
        "gzip;q=0.000, *",
        "*;q=0",
        "gzip;q=0.1, identity;q=1",
        "gzip;q=much",
        "gzipped",
    ],
)
def test_nobody_else_gets_gzip(header: str | None) -> None:
    """A client that does not name gzip, refuses it with q=0 or likes it less gets none."""
    assert not accepts_gzip(header)


@given(st.text())
def test_no_header_can_break_the_negotiation(header: str) -> None:
    """Any text at all in the Accept headers has an answer."""
    assert negotiate(header) in Format
    assert accepts_gzip(header) in {True, False}


def _exporter(view: View) -> Exporter:
    exporter = Exporter()
    exporter.publish(view)
    return exporter


def test_both_formats_end_with_the_daemons_own_process() -> None:
    """What is served is the view's families and then those of the daemon's process."""
    for accept, form in ((None, Format.TEXT), (ASKS_OPENMETRICS, Format.OPENMETRICS)):
        rendered = _exporter(views.sample()).render(accept, None)
        expected = encode(collect(views.sample()), form).removesuffix(b"# EOF\n")
        assert rendered.content_type == form.value
        assert rendered.encoding is None
        assert rendered.body.startswith(expected)
        assert b"\nprocess_cpu_seconds_total " in rendered.body.removeprefix(expected)


def test_gzip_holds_the_same_bytes() -> None:
    """What is served compressed is what is served plain."""
    exporter = _exporter(views.sample())
    for accept in (None, ASKS_OPENMETRICS):
        plain, packed = exporter.render(accept, None), exporter.render(accept, "gzip")
        assert (plain.encoding, packed.encoding) == (None, "gzip")
        assert plain.content_type == packed.content_type
        assert gzip.decompress(packed.body) == plain.body


def test_the_next_view_replaces_what_was_rendered() -> None:
    """A scrape serves the last view that was published, and never an older one."""
    exporter = _exporter(views.view(sequence=1, time=1.0))
    assert b"threadwatch_last_poll_timestamp_seconds 1.0\n" in exporter.render(None, None).body
    exporter.publish(views.view(sequence=2, time=2.0))
    assert b"threadwatch_last_poll_timestamp_seconds 2.0\n" in exporter.render(None, None).body


def test_before_the_first_poll_there_is_an_exposition() -> None:
    """Without a view the build and the daemon's process are served, each time as they are then."""
    exporter = Exporter()
    first, second = exporter.render(None, None), exporter.render(None, None)
    assert b"threadwatch_build_info{" in first.body
    assert b"threadwatch_polls_total" not in first.body
    assert first is not second


def test_a_view_may_be_published_at_any_moment() -> None:
    """While one thread publishes and another renders, each body is of one view: whole and consistent."""
    exporter = _exporter(views.view(time=0.0))
    stop = threading.Event()

    def publish() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            group = views.group(f"g{number}", {})
            exporter.publish(views.view(group, time=float(number)))

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for _ in range(200):
            body = exporter.render(ASKS_OPENMETRICS, None).body.decode()
            samples = {
                sample.name: sample
                for family in parse_openmetrics(body)  # type: ignore[no-untyped-call]  # has no types
                for sample in family.samples
            }
            seen = samples["threadwatch_last_poll_timestamp_seconds"].value
            if seen:
                assert samples["threadwatch_group_processes"].labels == {"group": f"g{int(seen)}"}
    finally:
        stop.set()
        publisher.join()


def test_a_second_scrape_of_a_view_costs_next_to_nothing() -> None:
    """For 10,000 samples, all but the first scrape of a view take far less than 1 ms of CPU."""
    exporter = _exporter(views.large(SIZE))
    for accept in (None, ASKS_OPENMETRICS):
        for encoding in (None, "gzip"):
            first = exporter.render(accept, encoding)
            again = _cpu_seconds(lambda a=accept, e=encoding: exporter.render(a, e), of=5)  # type: ignore[misc]  # mypy cannot infer defaults of a lambda
            assert exporter.render(accept, encoding) is first
            assert again < 0.001
