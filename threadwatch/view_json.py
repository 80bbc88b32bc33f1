"""A View as JSON, and back: what ``/api/v1/view`` says, and of processes ``threadwatch ps --json``. Pure.

Times are seconds, shares of time are percent; what is not known is null. Series are left out: they are
the metrics'. So :func:`parse_view` gives groups without them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from threadwatch.applications import without_arguments
from threadwatch.errors import Malformed
from threadwatch.model import (
    STATES,
    GroupView,
    Per,
    ProcessKey,
    ProcessView,
    Python,
    Source,
    Stats,
    ThreadView,
    Trace,
    View,
)

_MOST: Final = 1 << 63
"""No number that a daemon says is as large."""

_T = TypeVar("_T")


def view_json(view: View) -> dict[str, object]:
    """The view in values that JSON has, without what processes were given as arguments.

    Those may be secret, and this is for everybody who can reach the daemon.
    """
    return {
        "sequence": view.sequence,
        "time": view.time,
        "monotonic_seconds": view.monotonic_ns / 1e9,
        "boottime_seconds": view.boottime_ns / 1e9,
        "interval_seconds": view.interval_ns / 1e9,
        "details": view.details,
        "thread_info": view.thread_info,
        "groups": [_group(group) for group in view.groups],
        "processes": [
            process_json(replace(process, cmdline=without_arguments(process.cmdline)))
            for process in view.processes
        ],
        "stats": _stats(view.stats),
    }


def history_json(view: View) -> dict[str, object]:
    """The last minutes of what is in the view; of a view that was made with details."""
    history = view.history
    if history is None:
        return {}
    found = {process.key: history.processes.get(process.key) for process in view.processes}
    traces = {group.name: history.groups.get(group.name) for group in view.groups}
    return {
        "monotonic_seconds": history.monotonic_ns / 1e9,
        "time": view.time - (view.monotonic_ns - history.monotonic_ns) / 1e9,
        "step_seconds": history.step_ns / 1e9,
        "steps": history.steps,
        "groups": [
            {"name": name, "cpu_percent": _percents(trace)}
            for name, trace in traces.items()
            if trace
        ],
        "processes": [
            {
                "pid": key.pid,
                "start_ticks": key.start_ticks,
                "cpu_percent": _percents(process.cpu),
                "threads": [
                    {"tid": tid, "start_ticks": start_ticks, "cpu_percent": _percents(trace)}
                    for (tid, start_ticks), trace in process.threads.items()
                ],
            }
            for key, process in found.items()
            if process
        ],
    }


def _percents(trace: Trace) -> list[float]:
    return [value / 10 for value in trace.per_mille()]


def process_json(process: ProcessView) -> dict[str, object]:
    """One process with its threads."""
    python = process.python
    return {
        "pid": process.key.pid,
        "ppid": process.ppid,
        "uid": process.uid,
        "start_ticks": process.key.start_ticks,
        "group": process.group,
        "comm": process.comm,
        "cmdline": list(process.cmdline),
        "published": process.published,
        "implementation": python.implementation if python else None,
        "version": _version(python) if python else None,
        "free_threaded": python.free_threaded if python else None,
        "gil": python.gil if python else None,
        "cpu_seconds": process.cpu_ns / 1e9,
        "cpu_percent": _percent(process.cpu_ratio),
        "gil_held_percent": _percent(process.gil_held_ratio),
        "threads": [_thread(thread) for thread in process.threads],
    }


def _thread(thread: ThreadView) -> dict[str, object]:
    states = thread.states
    return {
        "tid": thread.tid,
        "name": thread.name,
        "source": thread.source,
        "series": thread.thread,
        "comm": thread.comm,
        "state": thread.state,
        "cpu_seconds": (thread.user_ns + thread.system_ns) / 1e9,
        "user_seconds": thread.user_ns / 1e9,
        "system_seconds": thread.system_ns / 1e9,
        "cpu_percent": _percent(thread.cpu_ratio),
        "user_percent": _percent(thread.user_ratio),
        "system_percent": _percent(thread.system_ratio),
        "runqueue_wait_percent": _percent(thread.runqueue_ratio),
        "gil_held_percent": _percent(thread.gil_held_ratio),
        "gil_wait_percent": _percent(thread.gil_wait_ratio),
        "states_percent": None
        if states is None
        else {state: _percent(share) for state, share in states.items()},
        "last_cpu": thread.last_cpu,
        "start_ticks": thread.start_ticks,
        "name_cut": thread.name_cut,
    }


def _group(group: GroupView) -> dict[str, object]:
    return {
        "name": group.name,
        "per": group.per,
        "cpu_seconds": group.cpu_ns / 1e9,
        "processes": group.processes,
        "published": group.published,
        "pythons": [
            {
                "implementation": python.implementation,
                "version": _version(python),
                "free_threaded": python.free_threaded,
                "gil": python.gil,
                "processes": count,
            }
            for python, count in sorted(group.pythons.items())
        ],
        "dropped": group.dropped,
    }


def _stats(stats: Stats) -> dict[str, object]:
    return {
        "polls": stats.polls,
        "polls_skipped": stats.polls_skipped,
        "poll_cpu_seconds": stats.poll_cpu_ns / 1e9,
        "poll_duration_seconds": stats.poll_duration_ns / 1e9,
        "poll_durations": list(stats.poll_durations),
        "read_errors": [
            {"source": source, "reason": reason, "count": count}
            for (source, reason), count in sorted(stats.read_errors.items())
        ],
        "samples": stats.samples,
        "sample_cpu_seconds": stats.sample_cpu_ns / 1e9,
        "reload_successful": stats.reload_successful,
        "reload_success_time": stats.reload_success_time,
    }


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio * 100, 2)


def _version(python: Python) -> str:
    return ".".join(map(str, python.version))


def parse_view(body: bytes) -> View:
    """The view that ``/api/v1/view`` has answered with; keys that are not known are left alone.

    Shares are exact to 0.01 %, times to 1 ns for as long as they are below 100 days.

    :raises Malformed: it is none, with what is wrong and where.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("view", f"is no JSON: {error}") from None
    return _view(_Object(document, ""))


class _Object:
    """A JSON object, and where it stands. Its methods give a key's value, or raise Malformed."""

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
                or (
                    isinstance(v, dict) and all(k in STATES and _is_number(n) for k, n in v.items())
                )
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
        stats=_parse_stats(found.object("stats")),
    )


def _parse_process(found: _Object) -> ProcessView:
    return ProcessView(
        key=ProcessKey(found.whole("pid"), found.whole("start_ticks")),
        ppid=found.whole("ppid"),
        uid=found.whole("uid"),
        group=found.text("group"),
        comm=found.text("comm"),
        cmdline=found.texts("cmdline"),
        python=_parse_python(found) if found.flag("published") else None,
        cpu_ns=found.ns("cpu_seconds"),
        cpu_ratio=found.ratio("cpu_percent"),
        threads=found.array("threads", _parse_thread),
    )


def _parse_python(found: _Object) -> Python:
    return Python(
        found.text("implementation"),
        found.version("version"),
        found.flag("free_threaded"),
        found.flag("gil"),
    )


_SOURCES: Final[tuple[Source, ...]] = ("published", "comm")
_PERS: Final[tuple[Per, ...]] = ("group", "process", "thread")


def _parse_thread(found: _Object) -> ThreadView:
    return ThreadView(
        tid=found.whole("tid"),
        start_ticks=found.whole("start_ticks"),
        name=found.text("name"),
        source=found.word("source", _SOURCES),
        thread=found.text("series"),
        comm=found.text("comm"),
        state=found.word("state", STATES),
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
    )


def _parse_group(found: _Object) -> GroupView:
    pythons = found.array("pythons", lambda one: (_parse_python(one), one.whole("processes")))
    return GroupView(
        name=found.text("name"),
        per=found.word("per", _PERS),
        cpu_ns=found.ns("cpu_seconds"),
        processes=found.whole("processes"),
        pythons=dict(pythons),
        series={},
        dropped=found.whole("dropped"),
    )


def _parse_stats(found: _Object) -> Stats:
    errors = found.array(
        "read_errors",
        lambda one: ((one.text("source"), one.text("reason")), one.whole("count")),
    )
    return Stats(
        polls=found.whole("polls"),
        polls_skipped=found.whole("polls_skipped"),
        poll_cpu_ns=found.ns("poll_cpu_seconds"),
        poll_duration_ns=found.ns("poll_duration_seconds"),
        poll_durations=found.wholes("poll_durations"),
        read_errors=dict(errors),
        samples=found.whole("samples"),
        sample_cpu_ns=found.ns("sample_cpu_seconds"),
        reload_successful=found.flag("reload_successful"),
        reload_success_time=found.number("reload_success_time"),
    )
