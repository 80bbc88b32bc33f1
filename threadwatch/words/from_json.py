"""Parses a View from the JSON of :mod:`threadwatch.words.to_json`, for clients of a daemon. Pure and total.

The JSON has no series, so groups have none.
"""

from __future__ import annotations

import json
from typing import Final, get_args

from threadwatch.errors import Malformed
from threadwatch.model.keys import HANDOVER_RESULTS, SOURCES, Per, Place, ProcessKey, Python
from threadwatch.model.loops import LOOP_KINDS, LoopView, TaskCount, TaskView
from threadwatch.model.states import NAMES
from threadwatch.model.view import GroupView, Host, ProcessView, Stats, ThreadView, View
from threadwatch.words.json_object import JsonObject

_PERS: Final[tuple[Per, ...]] = get_args(Per)


def parse_view(body: bytes) -> View:
    """Return the view in an answer of ``/api/v1/view``; unknown keys are ignored.

    Shares are exact to 0.01 %, times to 1 ns as long as they are below 100 days.

    :raises Malformed: it is not a view; the message says what is wrong, and where.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("view", f"is no JSON: {error}") from None
    return _view(JsonObject(document, ""))


def _view(found: JsonObject) -> View:
    return View(
        sequence=found.whole("sequence"),
        time=found.number("time"),
        monotonic_ns=found.ns("monotonic_seconds"),
        boottime_ns=found.ns("boottime_seconds"),
        interval_ns=found.ns("interval_seconds"),
        processes=found.array("processes", _parse_process),
        details=found.flag("details"),
        groups=found.array("groups", _parse_group),
        thread_info=found.flag("thread_info"),
        host=_parse_host(found.object("host")) if found.has("host") else None,
        stats=_parse_stats(found.object("stats")),
    )


def _parse_host(found: JsonObject) -> Host:
    load = None if found.is_null("load") else found.three("load")
    return Host(found.text("name"), found.whole("cpus"), load)


def _parse_process(found: JsonObject) -> ProcessView:
    return ProcessView(
        key=ProcessKey(found.whole("pid"), found.whole("start_ticks")),
        ppid=found.whole("ppid"),
        uid=found.whole("uid"),
        group=found.text("group"),
        comm=found.text("comm"),
        cmdline=found.texts("cmdline"),
        names_from=found.word("source", SOURCES),
        python=None if found.is_null("implementation") else _parse_python(found),
        cpu_ns=found.ns("cpu_seconds"),
        cpu_ratio=found.ratio("cpu_percent"),
        threads=found.array("threads", _parse_thread),
    )


def _parse_place(found: JsonObject) -> Place:
    return Place(found.text("container_id"), found.text("pod_uid"), found.text("unit"))


def _parse_python(found: JsonObject) -> Python:
    return Python(
        found.text("implementation"),
        found.version("version"),
        found.flag("free_threaded"),
        found.flag("gil"),
    )


def _parse_thread(found: JsonObject) -> ThreadView:
    return ThreadView(
        tid=found.whole("tid"),
        start_ticks=found.whole("start_ticks"),
        name=found.text("name"),
        source=found.word("source", SOURCES),
        thread=found.text("series"),
        comm=found.text("comm"),
        state=found.word("state", NAMES),
        user_ns=found.ns("user_seconds"),
        system_ns=found.ns("system_seconds"),
        cpu_ratio=found.ratio("cpu_percent"),
        user_ratio=found.ratio("user_percent"),
        system_ratio=found.ratio("system_percent"),
        runqueue_ratio=found.ratio("runqueue_wait_percent"),
        gil_held_ratio=found.ratio("gil_held_percent"),
        gil_wait_ratio=found.ratio("gil_wait_percent"),
        states=found.shares("states_percent"),
        last_cpu=found.whole("last_cpu"),
        name_cut=found.flag("name_cut"),
        loop=_parse_loop(found.object("loop")) if found.has("loop") else None,
    )


def _parse_loop(found: JsonObject) -> LoopView:
    return LoopView(
        kind=None if found.is_null("kind") else found.word("kind", LOOP_KINDS),
        holder=None if found.is_null("holder") else found.text("holder"),
        age_ns=None if found.is_null("lag_seconds") else found.ns("lag_seconds"),
        ready=None if found.is_null("ready") else found.whole("ready"),
        tasks=found.array("tasks", _parse_task),
    )


def _parse_task(found: JsonObject) -> TaskView:
    alive = None
    if not found.is_null("ready"):
        alive = TaskCount(found.whole("ready"), found.whole("waiting"))
    return TaskView(
        name=found.text("name"),
        cpu_ns=found.ns("cpu_seconds"),
        held_ns=found.ns("held_seconds"),
        cpu_ratio=found.ratio("cpu_percent"),
        held_ratio=found.ratio("held_percent"),
        alive=alive,
    )


def _parse_group(found: JsonObject) -> GroupView:
    pythons = found.array("pythons", lambda one: (_parse_python(one), one.whole("processes")))
    counts = found.object("sources")
    names_from = {source: counts.whole(source) for source in SOURCES}
    return GroupView(
        name=found.text("name"),
        per=found.word("per", _PERS),
        cpu_ns=found.ns("cpu_seconds"),
        processes=found.whole("processes"),
        names_from={source: count for source, count in names_from.items() if count},
        pythons=dict(pythons),
        series={},
        places=frozenset(found.array("places", _parse_place)),
        dropped=found.whole("dropped"),
        foldable_names=found.whole("foldable_names"),
        ended_children_ns=found.ns("ended_children_cpu_seconds"),
        throttled_ns=found.ns("throttled_seconds") if found.has("throttled_seconds") else None,
    )


def _parse_stats(found: JsonObject) -> Stats:
    errors = found.array(
        "read_errors",
        lambda one: ((one.text("source"), one.text("reason")), one.whole("count")),
    )
    handed_over = None
    if not found.is_null("handed_over"):
        counts = found.object("handed_over")
        handed_over = {result: counts.whole(result) for result in HANDOVER_RESULTS}
    return Stats(
        polls=found.whole("polls"),
        polls_skipped=found.whole("polls_skipped"),
        poll_cpu_ns=found.ns("poll_cpu_seconds"),
        poll_duration_ns=found.ns("poll_duration_seconds"),
        poll_durations=found.wholes("poll_durations"),
        read_errors=dict(errors),
        handed_over=handed_over,
        samples=found.whole("samples"),
        sample_cpu_ns=found.ns("sample_cpu_seconds"),
        reload_successful=found.flag("reload_successful"),
        reload_success_time=found.number("reload_success_time"),
    )
