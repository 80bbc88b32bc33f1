"""Makes the views of single threads: their use of time since they were last shown, as ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from threadwatch.accounting.thread_account import ThreadAccount
from threadwatch.model.readings import ThreadReading
from threadwatch.model.states import OF_LETTER
from threadwatch.model.view import ThreadView


@dataclass(frozen=True, slots=True)
class ThreadViewMaker:
    """A thread's view, and what it was made from."""

    view: ThreadView
    sample: ThreadReading
    spent: tuple[int, int, int | None, int]
    """CPU time, run-queue wait, time that it held the GIL and that it waited for it, in ns."""
    wait: str
    """The state in which its time passes from then on."""
    other_waits: Mapping[str, int]
    """As in :class:`threadwatch.accounting.thread_account.ThreadAccount`."""

    @classmethod
    def of(
        cls, account: ThreadAccount, before: Self | None, elapsed_ns: int | None, span_ns: int
    ) -> Self:
        """Return the thread now; changes since ``before`` happened in the last ``elapsed_ns``.

        What samples saw of the GIL happened in the ``span_ns`` that they stand for: from the beginning of the
        poll of ``before`` to that of this one. Within a poll, a process may have to wait for its turn.
        """
        spent = account.spent()
        sample = account.sample
        if (
            before is not None
            and before.spent == spent
            and before.sample is sample
            and before.view.state == account.state
            and before.view.thread == account.key.thread
            and before.view.cpu_ratio == 0.0
            and not before.view.runqueue_ratio
            and not before.view.gil_wait_ratio
            and not before.view.gil_held_ratio
            and before.other_waits is account.other_waits
            and before.wait == account.wait
            and before.view.states == {account.wait: 1.0}
        ):
            return before
        old = before.spent if before is not None else None
        cpu, runqueue, held, wait = (
            None
            if old is None or over_ns is None or now is None
            else (now - (then or 0)) / max(over_ns, 1)
            for now, then, over_ns in zip(
                spent, old or spent, (elapsed_ns, elapsed_ns, span_ns, span_ns), strict=True
            )
        )
        system = states = None
        if before is not None and elapsed_ns is not None:
            system = (account.system_ns - before.view.system_ns) / max(elapsed_ns, 1)
            states = before.states_until(account, elapsed_ns)
        view = ThreadView(
            tid=sample.tid,
            start_ticks=sample.start_ticks,
            name=sample.name,
            source=sample.source,
            thread=account.key.thread,
            comm=sample.comm,
            state=account.state,
            user_ns=account.user_ns,
            system_ns=account.system_ns,
            cpu_ratio=cpu,
            user_ratio=None if cpu is None or system is None else cpu - system,
            system_ratio=system,
            runqueue_ratio=None if sample.runqueue_ns is None else runqueue,
            gil_held_ratio=held,
            gil_wait_ratio=None if held is None else wait,
            states=states,
            last_cpu=sample.last_cpu,
            name_cut=sample.name_cut,
        )
        return cls(view, sample, spent, account.wait, account.other_waits)

    def states_until(self, account: ThreadAccount, elapsed_ns: int) -> Mapping[str, float]:
        """Return the shares of the last ``elapsed_ns`` that the thread spent in each state; they sum to 1.

        Exact times come first. Sampled waits share what is left, scaled down if they claim more.
        The remainder is the state it was last seen waiting in.
        """
        cpu_ns, runqueue_ns, *_ = account.spent()
        counted = {"running": cpu_ns - self.spent[0], "runnable": runqueue_ns - self.spent[1]}
        seen = {s: ns - self.other_waits.get(s, 0) for s, ns in account.other_waits.items()}
        left = 1.0
        shares: dict[str, float] = {}
        for part in (counted, seen):
            part_ns = sum(ns for ns in part.values() if ns > 0)
            scale = left / max(part_ns, round(elapsed_ns * left), 1)
            for state, ns in part.items():
                if ns > 0 and scale > 0:
                    shares[state] = shares.get(state, 0.0) + ns * scale
            left = max(1.0 - sum(shares.values()), 0.0)
        if left > 1e-9 or not shares:
            shares[self.wait] = shares.get(self.wait, 0.0) + left
        return MappingProxyType(shares)


def newborn(sample: ThreadReading, thread: str) -> ThreadView:
    """Return the view of a thread that is not charged yet, with the label that it would have."""
    return ThreadView(
        tid=sample.tid,
        start_ticks=sample.start_ticks,
        name=sample.name,
        source=sample.source,
        thread=thread,
        comm=sample.comm,
        state=OF_LETTER.get(sample.state, "other"),
        user_ns=sample.cpu_ns,
        system_ns=0,
        cpu_ratio=None,
        user_ratio=None,
        system_ratio=None,
        runqueue_ratio=None,
        gil_held_ratio=None,
        gil_wait_ratio=None,
        states=None,
        last_cpu=sample.last_cpu,
        name_cut=sample.name_cut,
    )
