"""Adds readings to totals. Pure: reads no file and asks no clock.

Rules: totals never fall, and outlive the threads, names and processes that they came from. A charge
stays where it was made. A group that has had no process for its ``expire_after`` goes, and starts
anew if it comes back. A name that no thread has had for as long passes its totals on to
``(other)``, so that the sum over a group's threads stays the sum of its process clocks. A process
chooses its own name, so the number of groups is limited (:mod:`threadwatch.accounting.places`); a
process that finds no place is charged to the group ``(other)``.
:mod:`threadwatch.accounting.ledger` has the rules within one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from threadwatch.accounting.children import EndedChildren
from threadwatch.accounting.group import Group, GroupRules, Interpreter
from threadwatch.accounting.history import History
from threadwatch.accounting.ledger import Ledger
from threadwatch.accounting.places import make_room
from threadwatch.model.history import HistoryView
from threadwatch.model.keys import NOWHERE, OTHER, Place, ProcessKey, SeriesKey
from threadwatch.model.loops import LoopReading
from threadwatch.model.readings import EndedThread, Identity, ProcessReading
from threadwatch.model.view import GroupView, ThreadView


@dataclass(frozen=True, slots=True)
class Closed:
    """The charges of a process that has gone."""

    cpu_ns: int
    group: Group
    series: SeriesKey | None
    """The series of its thread, if it had only one."""


class Account:
    """The totals of all groups, from the daemon's start on."""

    def __init__(self, cpus: int = 1) -> None:
        """``cpus``: how many CPUs the machine has."""
        self._groups: dict[str, Group] = {}
        self._ledgers: dict[ProcessKey, Ledger] = {}
        self._shown_ns = 0
        self._history = History()
        self.children = EndedChildren(cpus)
        """Has to be told which processes are watched, which have gone, and what they have waited for."""

    def open(
        self,
        key: ProcessKey,
        group: str,
        rules: GroupRules,
        now_ns: int,
        owner: int = 0,
        place: Place = NOWHERE,
    ) -> str:
        """Begin the books of a process, or move it to another group or under other rules.

        ``owner``: its user. ``place``: where it runs. Returns the group's name: ``(other)`` if there
        is no room for its own.
        """
        ledger = self._ledgers.get(key)
        known = self._groups.get(group)
        turned_away = False
        if known is None and not rules.fixed and not make_room(self._groups, owner):
            group, rules = OTHER, replace(rules, per="group", fixed=True)
            known = self._groups.get(group)
            turned_away = ledger is None or ledger.group is not known
        if known is None:
            known = self._groups[group] = Group(
                group,
                rules.per,
                rules.cap,
                rules.fold,
                rules.expire_after_ns,
                rules.fold_task,
                rules.blocked_after_ns,
                owner=None if rules.fixed else owner,
            )
        known.use(rules)
        if turned_away:
            known.turn_away()
        if ledger is None:
            self._ledgers[key] = Ledger(known, key)
            known.join(key, Interpreter())
            known.locate(key, place)
            return group
        known.join(key, ledger.group.leave(key, now_ns))
        known.locate(key, place)
        ledger.move(known, now_ns)
        return group

    def charge(self, sample: ProcessReading) -> None:
        """Charge what an opened process has used since it was last charged."""
        ledger = self._ledgers[sample.key]
        ledger.group.join(sample.key, Interpreter(sample.names_from, sample.python))
        ledger.charge(sample)

    def see_loops(
        self, key: ProcessKey, readings: Mapping[Identity, LoopReading], now_ns: int
    ) -> None:
        """Charge what looks at the loops of an opened process have seen that is not read in this poll."""
        self._ledgers[key].see_loops(readings, now_ns)

    def throttle(self, group: str, gained_ns: int) -> None:
        """Add what a limit of CPU time has withheld from the processes of a group since the last time."""
        self._groups[group].throttle(gained_ns)

    def group_of(self, key: ProcessKey) -> str:
        """Return the group that an opened process is charged to; ``(other)`` if its own found no room."""
        return self._ledgers[key].group.name

    def views(self, key: ProcessKey, elapsed_ns: int | None) -> tuple[ThreadView, ...]:
        """Return the threads of an opened process, as :meth:`.Ledger.views` has them."""
        return self._ledgers[key].views(elapsed_ns)

    def close(self, key: ProcessKey, ended: tuple[EndedThread, ...], now_ns: int) -> Closed | None:
        """Close the books of a process that has gone; return what was charged for it.

        ``ended`` is what it published last.
        """
        ledger = self._ledgers.pop(key, None)
        if ledger is None:
            return None
        places = [account.key for account in ledger.accounts.values()]
        ledger.close(ended, now_ns)
        ledger.group.leave(key, now_ns)
        return Closed(ledger.cpu_ns, ledger.group, places[0] if len(places) == 1 else None)

    def settle(self, keys: Iterable[ProcessKey], now_ns: int) -> None:
        """Charge, at the end of a poll, the CPU time of ended children that no poll has seen.

        ``keys``: the processes whose clocks of those are known as of this poll.
        """
        for rest in self.children.settle(keys, now_ns):
            group = rest.group or self._ledgers[rest.key].group
            group.charge_rest(rest.key, rest.series, rest.cpu_ns, rest.system_share, now_ns)

    def groups(self, now_ns: int) -> tuple[GroupView, ...]:
        """Return all groups in order of their names, without those that have expired."""
        for name, group in list(self._groups.items()):
            if group.expire(now_ns):
                del self._groups[name]
        before_ns, self._shown_ns = self._shown_ns, now_ns
        return tuple(self._groups[name].view(now_ns, before_ns) for name in sorted(self._groups))

    def remember(self, now_ns: int, interval_ns: int) -> None:
        """Keep the CPU time of the history, after a poll; polls come every ``interval_ns``."""
        self._history.record(now_ns, interval_ns, self._groups.values(), self._ledgers)

    def history(self) -> HistoryView:
        """Return the last minutes."""
        return self._history.view()
