"""Turns a View into the JSON of ``/api/v1/view``, and its processes into that of ``ps --json``. Pure.

Times are seconds, shares of time are percent; unknown values are null. Series are left out, because
the metrics have them. :mod:`threadwatch.words.from_json` parses the view again.
"""

from __future__ import annotations

from dataclasses import replace

from threadwatch.labels.applications import without_arguments
from threadwatch.labels.discretion import without_secrets
from threadwatch.model.history import Trace
from threadwatch.model.keys import SOURCES
from threadwatch.model.loops import LoopView
from threadwatch.model.view import GroupView, ProcessView, Stats, ThreadView, View
from threadwatch.words.wording import dotted


def view_json(view: View) -> dict[str, object]:
    """Return the view as values of JSON, without the arguments of processes.

    Arguments may be secret, and any client of the daemon can read this.
    """
    return {
        "sequence": view.sequence,
        "time": view.time,
        "monotonic_seconds": view.monotonic_ns / 1e9,
        "boottime_seconds": view.boottime_ns / 1e9,
        "interval_seconds": view.interval_ns / 1e9,
        "details": view.details,
        "thread_info": view.thread_info,
        "host": None
        if view.host is None
        else {
            "name": view.host.name,
            "cpus": view.host.cpus,
            "load": None if view.host.load is None else list(view.host.load),
        },
        "groups": [_group(group) for group in view.groups],
        "processes": [
            process_json(replace(process, cmdline=without_arguments(process.cmdline)))
            for process in view.processes
        ],
        "stats": _stats(view.stats),
    }


def history_json(view: View) -> dict[str, object]:
    """Return the last minutes of everything in the view, which was made with details."""
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
    """Return one process with its threads."""
    python = process.python
    return {
        "pid": process.key.pid,
        "ppid": process.ppid,
        "uid": process.uid,
        "start_ticks": process.key.start_ticks,
        "group": process.group,
        "comm": process.comm,
        "cmdline": list(without_secrets(process.cmdline)),
        "published": process.published,
        "source": process.names_from,
        "implementation": python.implementation if python else None,
        "version": dotted(python.version) if python else None,
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
        "loop": None if thread.loop is None else _loop(thread.loop),
    }


def _loop(loop: LoopView) -> dict[str, object]:
    return {
        "kind": loop.kind,
        "holder": loop.holder,
        "lag_seconds": None if loop.age_ns is None else loop.age_ns / 1e9,
        "ready": loop.ready,
        "tasks": [
            {
                "name": task.name,
                "cpu_seconds": task.cpu_ns / 1e9,
                "cpu_percent": _percent(task.cpu_ratio),
                "held_seconds": task.held_ns / 1e9,
                "held_percent": _percent(task.held_ratio),
                "ready": None if task.alive is None else task.alive.ready,
                "waiting": None if task.alive is None else task.alive.waiting,
            }
            for task in loop.tasks
        ],
    }


def _group(group: GroupView) -> dict[str, object]:
    return {
        "name": group.name,
        "per": group.per,
        "cpu_seconds": group.cpu_ns / 1e9,
        "processes": group.processes,
        "published": group.published,
        "sources": {source: group.names_from.get(source, 0) for source in SOURCES},
        "pythons": [
            {
                "implementation": python.implementation,
                "version": dotted(python.version),
                "free_threaded": python.free_threaded,
                "gil": python.gil,
                "processes": count,
            }
            for python, count in sorted(group.pythons.items())
        ],
        "places": [
            {"container_id": place.container, "pod_uid": place.pod_uid, "unit": place.unit}
            for place in sorted(group.places)
        ],
        "dropped": group.dropped,
        "foldable_names": group.foldable_names,
        "ended_children_cpu_seconds": group.ended_children_ns / 1e9,
        "throttled_seconds": None if group.throttled_ns is None else group.throttled_ns / 1e9,
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
        "handed_over": None if stats.handed_over is None else dict(stats.handed_over),
        "samples": stats.samples,
        "sample_cpu_seconds": stats.sample_cpu_ns / 1e9,
        "reload_successful": stats.reload_successful,
        "reload_success_time": stats.reload_success_time,
    }


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio * 100, 2)
