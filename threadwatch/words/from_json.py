"""Parses a View from the JSON of :mod:`threadwatch.words.to_json`, for clients of a daemon. Pure and total.

The JSON has no series, so groups have none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from threadwatch.errors import Malformed
from threadwatch.model.keys import HANDOVER_RESULTS, SOURCES, Per, Place, ProcessKey, Python
from threadwatch.model.loops import LOOP_KINDS, LoopView, TaskCount, TaskView
from threadwatch.model.states import NAMES
from threadwatch.model.view import GroupView, Host, ProcessView, Stats, ThreadView, View

_MOST: Final = 1 << 63
"""Every number of a daemon is smaller."""

_T = TypeVar("_T")


def parse_view(body: bytes) -> View:
    """Return the view in an answer of ``/api/v1/view``; unknown keys are ignored.

    Shares are exact to 0.01 %, times to 1 ns as long as they are below 100 days.

    :raises Malformed: it is not a view; the message says what is wrong, and where.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("view", f"is no JSON: {error}") from None
    return _view(_Object(document, ""))


class _Object:
    """A JSON object and its place. Its methods return a key's value, or raise Malformed."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(place, "an object", value)
        self._values: dict[str, Any] = value
        self._prefix = f"{place}." if place else ""

    def _get(self, key: str, wanted: str, fits: Callable[[Any], bool]) -> Any:
        try:
            value = self._values[key]
        except KeyError:
            raise Malformed("view", f"{self._prefix}{key} is missing") from None
        if not fits(value):
            raise _wrong(self._prefix + key, wanted, value)
        return value

    def is_null(self, key: str) -> bool:
        """Return whether the value of a key is null."""
        return self._get(key, "a value or null", lambda _: True) is None

    def has(self, key: str) -> bool:
        """Return whether there is a value other than null: older daemons do not have every key."""
        return self._values.get(key) is not None

    def text(self, key: str) -> str:
        return str(self._get(key, "a text", _is_text))

    def word(self, key: str, words: tuple[_T, ...]) -> _T:
        value: _T = self._get(
            key, f"one of {', '.join(map(str, words))}", lambda v: _is_text(v) and v in words
        )
        return value

    def whole(self, key: str) -> int:
        return int(self._get(key, "a whole number", _is_whole))

    def flag(self, key: str) -> bool:
        return bool(self._get(key, "true or false", lambda v: isinstance(v, bool)))

    def number(self, key: str) -> float:
        return float(self._get(key, "a number", _is_number))

    def ns(self, key: str) -> int:
        return round(self.number(key) * 1e9)

    def ratio(self, key: str) -> float | None:
        value = self._get(key, "a number or null", lambda v: v is None or _is_number(v))
        return None if value is None else value / 100

    def shares(self, key: str) -> Mapping[str, float] | None:
        value = self._get(
            key,
            "percents by state, or null",
            lambda v: (
                v is None
                or (isinstance(v, dict) and all(k in NAMES and _is_number(n) for k, n in v.items()))
            ),
        )
        return None if value is None else {state: n / 100 for state, n in value.items()}

    def array(self, key: str, each: Callable[[_Object], _T]) -> tuple[_T, ...]:
        values = self._get(key, "an array", lambda v: isinstance(v, list))
        return tuple(
            each(_Object(value, f"{self._prefix}{key}[{number}]"))
            for number, value in enumerate(values)
        )

    def object(self, key: str) -> _Object:
        return _Object(
            self._get(key, "an object", lambda v: isinstance(v, dict)), self._prefix + key
        )

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(
            self._get(
                key, "an array of texts", lambda v: isinstance(v, list) and all(map(_is_text, v))
            )
        )

    def wholes(self, key: str) -> tuple[int, ...]:
        return tuple(
            self._get(
                key,
                "an array of whole numbers",
                lambda v: isinstance(v, list) and all(map(_is_whole, v)),
            )
        )

    def three(self, key: str) -> tuple[float, float, float]:
        one, two, three = self._get(
            key,
            "an array of three numbers",
            lambda v: isinstance(v, list) and len(v) == 3 and all(map(_is_number, v)),
        )
        return float(one), float(two), float(three)

    def version(self, key: str) -> tuple[int, int, int]:
        def fits(value: Any) -> bool:
            parts = value.split(".") if isinstance(value, str) else []
            return len(parts) == 3 and all(
                part.isascii() and part.isdecimal() and len(part) < 10 for part in parts
            )

        major, minor, micro = map(int, self._get(key, "a version like 3.12.1", fits).split("."))
        return major, minor, micro


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_MOST < value < _MOST


def _is_number(value: object) -> bool:
    return _is_whole(value) or (
        isinstance(value, float) and math.isfinite(value) and abs(value) < _MOST
    )


def _wrong(place: str, wanted: str, value: object) -> Malformed:
    found = repr(value)
    if len(found) > 60:
        found = found[:60] + "…"
    return Malformed("view", f"{place or 'it'} should be {wanted}, not {found}")


def _view(found: _Object) -> View:
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


def _parse_host(found: _Object) -> Host:
    load = None if found.is_null("load") else found.three("load")
    return Host(found.text("name"), found.whole("cpus"), load)


def _parse_process(found: _Object) -> ProcessView:
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


def _parse_place(found: _Object) -> Place:
    return Place(found.text("container_id"), found.text("pod_uid"), found.text("unit"))


def _parse_python(found: _Object) -> Python:
    return Python(
        found.text("implementation"),
        found.version("version"),
        found.flag("free_threaded"),
        found.flag("gil"),
    )


_PERS: Final[tuple[Per, ...]] = ("group", "process", "thread")


def _parse_thread(found: _Object) -> ThreadView:
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


def _parse_loop(found: _Object) -> LoopView:
    return LoopView(
        kind=None if found.is_null("kind") else found.word("kind", LOOP_KINDS),
        holder=None if found.is_null("holder") else found.text("holder"),
        age_ns=None if found.is_null("lag_seconds") else found.ns("lag_seconds"),
        ready=None if found.is_null("ready") else found.whole("ready"),
        tasks=found.array("tasks", _parse_task),
    )


def _parse_task(found: _Object) -> TaskView:
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


def _parse_group(found: _Object) -> GroupView:
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


def _parse_stats(found: _Object) -> Stats:
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
