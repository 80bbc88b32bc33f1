"""Which threads of the kernel published ends belong to."""

from __future__ import annotations

from typing import Any, cast

from threadwatch.model.readings import NS_PER_TICK
from threadwatch.names.slots import Slot
from threadwatch.names.source import Name
from threadwatch.procfs import Stat, Waited
from threadwatch.publisher import layout as table
from threadwatch.targets.process import Process
from threadwatch.targets.threads import KnownThread, ThreadBook
from threadwatch.threads import ends

TICK = NS_PER_TICK


class BareProcess:
    """As much of a watched process as is asked for: threads that are known, and that were."""

    def __init__(self, pid: int = 100, ns_pid: int = 100) -> None:
        self.key = self
        self.pid, self.ns_pid = pid, ns_pid
        self.threads = ThreadBook(Waited())

    def lives(self, known: KnownThread) -> None:
        """Return whether the kernel shows the thread."""
        self.threads.meet(known)

    def whose(self, *slots: Slot) -> list[tuple[tuple[int, int] | None, bool]]:
        """Return the threads of these ends, and whether they may be others."""
        told = ends.whose(cast("Process", self), [(7, slot) for slot in slots])
        return [(end.thread, end.early) for end in told]


def known(
    tid: int, start_ticks: int, *, ns_tid: int | None = None, named: int | None = None
) -> KnownThread:
    """Return a thread; ``named``: the serial of what was published of it last."""
    stat = Stat._make([0] * len(Stat._fields))._replace(start_ticks=start_ticks)
    found = KnownThread(tid, (tid, start_ticks), ns_tid or tid, 1, stat)
    if named is not None:
        found.name = Name("worker", cut=False, source="published", slot=(7, named))
    return found


def end(serial: int, tid: int, ended_ns: int, name: str = "worker", **values: Any) -> Slot:
    """Return what is published of an end."""
    return Slot(table.ENDED, name, False, serial, tid, 1, 0, ended_ns, 5, serial, **values)


def test_an_end_is_of_the_thread_that_lives_with_its_tid() -> None:
    """If it was born before: until it had ended, no other thread had that TID."""
    process = BareProcess()
    process.lives(known(11, 50))
    assert process.whose(end(1, 11, 52 * TICK)) == [((11, 50), False)]
    assert process.whose(end(1, 11, 49 * TICK)) == [(None, False)]
    assert process.whose(end(1, 12, 52 * TICK)) == [(None, False)]


def test_within_the_tick_of_its_birth_it_may_be_another() -> None:
    """But of a thread of C that calls Python at once it is not."""
    process = BareProcess()
    process.lives(known(11, 50, named=2))
    within_ns = 50 * TICK + 1
    assert process.whose(end(1, 11, within_ns)) == [((11, 50), True)]
    assert process.whose(end(1, 11, within_ns, "Dummy-3")) == [((11, 50), False)]
    assert process.whose(end(1, 11, within_ns, "named", visitor=True)) == [((11, 50), False)]


def test_an_end_is_of_the_thread_that_had_its_slot() -> None:
    """Also if another one has its TID by now, born in the tick in which it ended."""
    process = BareProcess()
    process.threads.forgotten.append(known(11, 40, named=1))
    process.lives(known(11, 50, named=2))
    assert process.whose(end(1, 11, 50 * TICK + 1)) == [((11, 40), False)]
    assert process.whose(end(2, 11, 50 * TICK + 2)) == [((11, 50), True)]


def test_ends_are_in_the_order_of_time() -> None:
    """Slots are used again, so their order is another."""
    process = BareProcess()
    told = ends.whose(
        cast("Process", process), [(7, end(2, 11, 9)), (7, end(1, 11, 5)), (7, end(3, 11, 9))]
    )
    assert [one.slot[1] for one in told] == [1, 2, 3]


def test_tids_of_another_namespace_are_translated() -> None:
    """An end is known by the TID that the publisher has, and told by ours."""
    process = BareProcess(pid=4000, ns_pid=1)
    process.lives(known(4001, 50, ns_tid=2))
    process.threads.forgotten.append(known(4002, 50, ns_tid=3))
    told = ends.whose(cast("Process", process), [(7, end(s, s + 1, 60 * TICK)) for s in (1, 2, 3)])
    assert [(one.tid, one.thread) for one in told] == [
        *((4001, (4001, 50)), (4002, (4002, 50)), (4, None))
    ]
