"""Keeps the CPU use of the last ten minutes: of each group, process, and thread that has run.

The history is kept whether or not a client looks, so it is cheap: at each step a process whose
clock has not moved costs one comparison, and so does a thread that has not run. A thing without any
CPU use in ten minutes takes no memory. The rings of all others together take at most :data:`MOST`
times :data:`RING_BYTES`, and twice that while a client looks.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeVar

from threadwatch.accounting.group import Group
from threadwatch.accounting.ledger import Ledger
from threadwatch.accounting.thread_account import take_unrecorded
from threadwatch.model.history import HistoryView, ProcessHistory, Trace
from threadwatch.model.keys import ProcessKey
from threadwatch.model.readings import Identity

SLOTS: Final = 120
STEP_NS: Final = 5_000_000_000
"""From slot to slot, unless polls are farther apart: ten minutes in all."""
MOST: Final = 16_384
"""The most rings; later ones have no place until others go."""
RING_BYTES: Final = 500
"""Memory that one ring takes, with its place in a dictionary."""
_HIGHEST: Final = 65_535
_IDLE: Final = bytes(2 * SLOTS)
_SWEEP: Final = SLOTS // 4
"""Steps between two searches for empty rings."""

_K = TypeVar("_K")


class _Ring:
    """The last :data:`SLOTS` values of one thing, in thousandths of a CPU."""

    __slots__ = ("last", "values")

    def __init__(self) -> None:
        self.last = 0
        """The step of the newest value; those of later steps are 0."""
        self.values = array("H", bytes(2 * SLOTS))

    def put(self, step: int, steps: int, value: int) -> None:
        """Store the ``value`` of each of the last ``steps`` steps up to ``step``."""
        for idle in range(max(self.last + 1, step - SLOTS + 1), step - steps + 1):
            self.values[idle % SLOTS] = 0
        for one in range(step - min(steps, SLOTS) + 1, step + 1):
            self.values[one % SLOTS] = value
        self.last = step

    def trace(self, first: int, step: int) -> Trace:
        """Return its content at ``step``; its values begin in ``first``."""
        return Trace(first, self.last, step, self.values.tobytes())


@dataclass(slots=True)
class _Known:
    """The known facts about a group or a process."""

    first: int
    """The step in which it was first seen."""
    cpu_ns: int
    """At the last step."""
    ring: _Ring | None = None
    threads: dict[Identity, _Ring] = field(default_factory=dict)


class History:
    """The rings of everything that is watched. For one thread at a time."""

    def __init__(self, most: int = MOST) -> None:
        """``most``: rings in all."""
        self._most = self._left = most
        self._step = 0
        self._step_ns = 0
        self._time_ns = 0
        """CLOCK_MONOTONIC of the last step."""
        self._groups: dict[str, _Known] = {}
        self._processes: dict[ProcessKey, _Known] = {}
        self._view: HistoryView | None = None

    def record(
        self,
        now_ns: int,
        interval_ns: int,
        groups: Collection[Group],
        ledgers: Mapping[ProcessKey, Ledger],
    ) -> None:
        """Keep the CPU use of a step, if one is over. Polls come every ``interval_ns``."""
        step_ns = max(STEP_NS, interval_ns)
        if step_ns != self._step_ns:  # slots of different lengths make no history
            self._groups, self._processes, self._left = {}, {}, self._most
            self._step_ns, self._time_ns, steps = step_ns, now_ns, 1
        elif now_ns - self._time_ns < step_ns - interval_ns // 2:
            return
        else:
            # More than one after the daemon was stopped: they share the CPU time of the meantime.
            steps = max(round((now_ns - self._time_ns) / step_ns), 1)
        per_mille = 1000 / max(now_ns - self._time_ns, 1)
        self._step += steps
        self._time_ns = now_ns
        self._view = None
        for group in groups:
            self._record(self._groups, group.name, group.cpu_ns, steps, per_mille)
        for key, ledger in ledgers.items():
            known = self._processes.get(key)
            if known is not None and known.cpu_ns == ledger.cpu_ns:
                continue
            self._record(self._processes, key, ledger.cpu_ns, steps, per_mille)
            self._record_threads(self._processes[key], ledger, steps, per_mille, new=known is None)
        self._let_go({group.name for group in groups}, ledgers.keys())
        if self._step % _SWEEP < steps:
            self._sweep()

    def _record(
        self, all_known: dict[_K, _Known], key: _K, cpu_ns: int, steps: int, per_mille: float
    ) -> None:
        known = all_known.get(key)
        if known is None:
            all_known[key] = _Known(self._step, cpu_ns)
        elif cpu_ns > known.cpu_ns:
            known.ring = known.ring or self._new()
            if known.ring is not None:
                value = round((cpu_ns - known.cpu_ns) * per_mille)
                known.ring.put(self._step, steps, min(value, _HIGHEST))
            known.cpu_ns = cpu_ns

    def _record_threads(
        self, known: _Known, ledger: Ledger, steps: int, per_mille: float, *, new: bool
    ) -> None:
        """Record the threads of a process that has run, as far as they have run since the last step."""
        rings = known.threads
        accounts = ledger.accounts
        for identity in rings.keys() - accounts.keys():
            del rings[identity]
            self._left += 1
        for identity, gained_ns in take_unrecorded(accounts):
            if new:  # it ran before the first poll
                continue
            ring = rings.get(identity)
            if ring is None:
                ring = self._new()
                if ring is None:
                    continue
                rings[identity] = ring
            # A thread may have used its first charge long before.
            ring.put(self._step, steps, min(round(gained_ns * per_mille), 1000))

    def _new(self) -> _Ring | None:
        if self._left <= 0:
            return None
        self._left -= 1
        return _Ring()

    def _let_go(self, groups: AbstractSet[str], processes: AbstractSet[ProcessKey]) -> None:
        """Forget things that no longer exist."""
        for known in _without(self._groups, groups) + _without(self._processes, processes):
            self._left += (known.ring is not None) + len(known.threads)

    def _sweep(self) -> None:
        """Drop rings that have only zeros."""
        oldest = self._step - SLOTS
        for known in (*self._groups.values(), *self._processes.values()):
            if known.ring is not None and known.ring.last <= oldest:
                known.ring = None
                self._left += 1
            for identity in [who for who, ring in known.threads.items() if ring.last <= oldest]:
                del known.threads[identity]
                self._left += 1

    def view(self) -> HistoryView:
        """Return the history now; the same object until the next step."""
        if self._view is None:
            step = self._step
            self._view = HistoryView(
                step_ns=self._step_ns,
                steps=SLOTS,
                monotonic_ns=self._time_ns,
                groups=MappingProxyType(
                    {name: _trace(known, step) for name, known in self._groups.items()}
                ),
                processes=MappingProxyType(
                    {
                        key: ProcessHistory(
                            _trace(known, step),
                            MappingProxyType(
                                {
                                    identity: ring.trace(known.first, step)
                                    for identity, ring in known.threads.items()
                                }
                            ),
                        )
                        for key, known in self._processes.items()
                    }
                ),
            )
        return self._view


def _trace(known: _Known, step: int) -> Trace:
    if known.ring is None:
        return Trace(known.first, known.first, step, _IDLE)
    return known.ring.trace(known.first, step)


def _without(all_known: dict[_K, _Known], keys: AbstractSet[_K]) -> list[_Known]:
    """Remove all but ``keys``, and return what was removed."""
    return [all_known.pop(key) for key in list(all_known) if key not in keys]
