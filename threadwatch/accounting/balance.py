"""Balances one process's clock against the charges of its threads, and assigns the difference.

:mod:`threadwatch.accounting.ledger` says how no CPU time is lost or counted twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from threadwatch.accounting.exit_tails import ExitTails, shares
from threadwatch.accounting.group import Group
from threadwatch.accounting.loop_series import LoopSeries
from threadwatch.accounting.series import Series
from threadwatch.model.keys import UNATTRIBUTED, ProcessKey, SeriesKey
from threadwatch.model.loops import UNKNOWN
from threadwatch.model.readings import EndedThread, ProcessReading


@dataclass(frozen=True, slots=True)
class Due:
    """CPU time that an ended thread has told of, and that has not been charged yet."""

    key: SeriesKey
    series: Series
    cpu_ns: int
    passed: tuple[Series, str] | None = None
    """The series and the state in which the thread's time has passed meanwhile, if it was known."""
    loop: LoopSeries | None = None
    """What its tasks have been charged to, if it has run a loop."""


class Balance:
    """The balance of one process."""

    def __init__(self, key: ProcessKey) -> None:
        self._key = key
        self._clock_ns = 0
        self._charged_ns = 0
        self._grouped_ns = 0
        """What the group's CPU time has of this process: the larger of the two above."""
        self._user_ticks = 0
        self._system_ticks = 0
        self._system_share = 0.0
        self._dues: list[Due] = []
        self._tails = ExitTails()

    @property
    def cpu_ns(self) -> int:
        """Return what has been charged for the process so far."""
        return self._grouped_ns

    @property
    def room_ns(self) -> int:
        """Return what the clock has beyond all that has been charged; less than 0 if more has been."""
        return self._clock_ns - self._charged_ns

    def read(self, reading: ProcessReading) -> None:
        """Learn what the process's clock says, and which part of its time it has spent in the kernel."""
        user = reading.user_ticks - self._user_ticks
        system = reading.system_ticks - self._system_ticks
        if user + system > 0:
            self._system_share = min(max(system / (user + system), 0.0), 1.0)
        self._user_ticks, self._system_ticks = reading.user_ticks, reading.system_ticks
        self._clock_ns = max(self._clock_ns, reading.clock_ns)

    def charged(self, cpu_ns: int) -> None:
        """Note that threads have been charged with this much CPU time."""
        self._charged_ns += cpu_ns

    def add_due(self, due: Due) -> None:
        """Note CPU time that an ended thread has told of."""
        self._dues.append(due)

    def add_tail(self, key: SeriesKey, end: EndedThread | None) -> None:
        """Note that a thread has ended under this name; ``end`` is what was published of that."""
        self._tails.add(key, end)

    def charge_rest(self, group: Group, reading: ProcessReading, open_ns: int) -> None:
        """Charge what the clock has beyond the threads, less what threads may still be charged with.

        ``open_ns``: the most that this can be.
        """
        self._charge_rest(group, open_ns, reading.time_ns)
        self._tails.carry(reading.unread_ns, open_ns)

    def close(self, group: Group, beyond_ns: int, now_ns: int) -> None:
        """Charge the rest after the process has ended.

        ``beyond_ns``: how much more than the clock had its last ends are believed.
        """
        self._charge_told(group, self.room_ns + beyond_ns, now_ns)
        self._charge_rest(group, 0, now_ns)

    def _charge_rest(self, group: Group, open_ns: int, now_ns: int) -> None:
        self._charge_told(group, self.room_ns - open_ns, now_ns)
        rest_ns = self.room_ns - open_ns
        if rest_ns > 0:
            rest_ns -= self._charge_claims(group, self._tails.claims(), rest_ns, now_ns).total()
            if rest_ns:
                self._charge(group.own(UNATTRIBUTED, self._key, now_ns), rest_ns, now_ns)
        grouped_ns = max(self._clock_ns, self._charged_ns)
        group.charge_clock(grouped_ns - self._grouped_ns)
        self._grouped_ns = grouped_ns

    def _charge_told(self, group: Group, most_ns: int, now_ns: int) -> None:
        """Charge what ended threads have told of, up to ``most_ns``. The rest may be in the next clock."""
        most_ns = max(most_ns, 0)
        if self._tails.told:
            paid = self._charge_claims(group, self._tails.told, most_ns, now_ns)
            self._tails.pay(paid)
            most_ns -= paid.total()
        dues, self._dues = self._dues, []
        total_ns = sum(due.cpu_ns for due in dues)
        for due in dues:
            paid_ns = due.cpu_ns if total_ns <= most_ns else due.cpu_ns * most_ns // total_ns
            self._charge(due.series, paid_ns, now_ns)
            due.series.run(paid_ns)
            if due.loop is not None and paid_ns:
                due.loop.charge(UNKNOWN, paid_ns, now_ns)
            if due.passed is not None:
                series, wait = due.passed
                series.correct(wait, paid_ns)
            if paid_ns < due.cpu_ns:
                self._tails.tell(due.key, due.cpu_ns - paid_ns)

    def _charge_claims(
        self, group: Group, claims: Counter[SeriesKey], most_ns: int, now_ns: int
    ) -> Counter[SeriesKey]:
        """Charge claims of ended threads, up to ``most_ns`` together; return what was charged."""
        series = group.series
        paid = shares(Counter({key: ns for key, ns in claims.items() if key in series}), most_ns)
        for key, paid_ns in paid.items():
            self._charge(series[key], paid_ns, now_ns)
        return paid

    def _charge(self, series: Series, cpu_ns: int, now_ns: int) -> None:
        """Charge CPU time of which only the sum is known, split as the process splits its own."""
        series.touch(now_ns)
        series.charge(cpu_ns, round(cpu_ns * self._system_share))
        self._charged_ns += cpu_ns
