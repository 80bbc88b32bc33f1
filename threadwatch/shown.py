"""Single threads as outputs show them: what they have done since they were last shown, as ratios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from threadwatch.entry import Entry
from threadwatch.model import ThreadView
from threadwatch.samples import STATES, ThreadSample


@dataclass(frozen=True, slots=True)
class Shown:
    """A thread's view, and what it was made from."""

    view: ThreadView
    sample: ThreadSample
    spent: tuple[int, int, int | None, int]
    """CPU time, run-queue wait, time that it held the GIL and that it waited for it, in ns."""

    @classmethod
    def of(cls, entry: Entry, before: Self | None, elapsed_ns: int | None) -> Self:
        """The thread as it is now; what is new since ``before`` happened in the last ``elapsed_ns``."""
        spent = entry.spent()
        sample = entry.sample
        if (
            before is not None
            and before.spent == spent
            and before.sample is sample
            and before.view.state == entry.state
            and before.view.thread == entry.key.thread
            and before.view.cpu_ratio == 0.0
            and not before.view.runqueue_ratio
            and not before.view.gil_wait_ratio
            and not before.view.gil_held_ratio
        ):
            return before
        old = before.spent if before is not None else None
        cpu, runqueue, held, wait = (
            None
            if old is None or elapsed_ns is None or now is None
            else (now - (then or 0)) / max(elapsed_ns, 1)
            for now, then in zip(spent, old or spent, strict=True)
        )
        view = ThreadView(
            tid=sample.tid,
            start_ticks=sample.start_ticks,
            name=sample.name,
            source=sample.source,
            thread=entry.key.thread,
            comm=sample.comm,
            state=entry.state,
            user_ns=entry.user_ns,
            system_ns=entry.system_ns,
            cpu_ratio=cpu,
            runqueue_ratio=None if sample.runqueue_ns is None else runqueue,
            gil_held_ratio=held,
            gil_wait_ratio=None if held is None else wait,
            last_cpu=sample.last_cpu,
            name_cut=sample.name_cut,
        )
        return cls(view, sample, spent)


def newborn(sample: ThreadSample, thread: str) -> ThreadView:
    """A thread that is not charged yet, with what its label would be."""
    return ThreadView(
        tid=sample.tid,
        start_ticks=sample.start_ticks,
        name=sample.name,
        source=sample.source,
        thread=thread,
        comm=sample.comm,
        state=STATES.get(sample.state, "other"),
        user_ns=sample.cpu_ns,
        system_ns=0,
        cpu_ratio=None,
        runqueue_ratio=None,
        gil_held_ratio=None,
        gil_wait_ratio=None,
        last_cpu=sample.last_cpu,
        name_cut=sample.name_cut,
    )
