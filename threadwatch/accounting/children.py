"""Accounts for CPU time of ended child processes that no poll has seen, and for its owners. Pure.

The kernel adds what a process has used in its whole life, and what that had waited for itself, to the
clocks of ended children of the process that waits for it (kernel/exit.c, wait_task_zombie(); fields 16
and 17 of stat; here: *waited*). So what a parent's waited clock has gained is

* what watched children that have ended had been charged with, and what is known of their own children;
* the *rest*: what those used after their clocks were last read, and what children used that no poll saw.

The rest is new CPU time of a group. Each watched child that has ended may claim of it what its thread can
have used since its clock was last read: one CPU for the time between. What is left over is the
parent's group's, without a name.

What keeps the reckoning right:

* The waited clock is read before the other clocks of the same poll. A child that it counts was waited for
  before, so the same poll finds that the child has gone.
* Both sides are sums over whole lives: a rest that comes to light late is not lost, and nothing is charged
  twice. The waited clock is cut off to ticks, once for user and once for system time.
* A waited clock counts every child that had gone before it was read. What it lacks of that, its process has
  not waited for (another process has inherited the child, or SIGCHLD is ignored), and never will.
* Children that no poll saw lived between two polls, so they have used at most all CPUs in that time. What is
  beyond comes of children that lived longer and were not watched: another program that a
  process has started is in no group, neither while it lives nor at its end.
* What had been waited for before a process was first seen is not counted, unless it had just been born.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from threadwatch.accounting.group import Group
from threadwatch.model.keys import ProcessKey, SeriesKey
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.procfs import Waited

_CUT_NS = 2 * NS_PER_TICK
"""What a waited clock can lack: user and system time are each cut off to a tick."""
_LATE_NS = 100_000_000
"""How much later within one poll a waited clock may be read than in the poll before."""
_INHERITED_FOR_NS = 60_000_000_000
"""How long the children of an ended process count for its parent, unless a poll knows better."""


def ns_of(waited: Waited) -> int:
    """Return the CPU time of a waited clock."""
    return (waited.user_ticks + waited.system_ticks) * NS_PER_TICK


@dataclass(frozen=True, slots=True)
class EndedChild:
    """A watched process that has gone."""

    key: ProcessKey
    parent: int
    """The PID of the process that is to have waited for it."""
    charged_ns: int
    """CPU time that it was charged with."""
    read_ns: int
    """When its clock was read last (CLOCK_MONOTONIC)."""
    group: Group
    """The group that it belonged to."""
    series: SeriesKey | None
    """The series of its only thread; None: it had several, or none is known."""


@dataclass(frozen=True, slots=True)
class Rest:
    """CPU time that has come to light, and its owner."""

    key: ProcessKey
    group: Group | None
    """The group of a process that has gone; None: it lives, and is in its present one."""
    series: SeriesKey | None
    """The owner among its threads; None: no name is known, and it may be of children of that process."""
    cpu_ns: int
    system_share: float


@dataclass(slots=True)
class _Claim:
    child: EndedChild
    most_ns: int


@dataclass(slots=True)
class _Parent:
    base_ns: int
    """Waited for before it was first seen, and charged to no thread."""
    since_ns: int
    """When the waited clock was last known (CLOCK_MONOTONIC)."""
    waited: Waited
    charged_ns: int = 0
    """What its ended children had been charged with when they went, and what they had waited for."""
    settled_ns: int = 0
    """The rest that has been settled so far, charged or not."""
    system_share: float = 0.0
    foreign: bool = False
    """A child that was not watched, and lived for a while, has gone since the last settlement."""
    unseen_ns: int = 0
    """CPU time of children that have gone since then and had ended, some time before, unseen by any poll."""
    claims: list[_Claim] = field(default_factory=list)
    older_claims: list[_Claim] = field(default_factory=list)

    @property
    def waited_ns(self) -> int:
        """Return the waited clock."""
        return ns_of(self.waited)

    @property
    def known_ns(self) -> int:
        """Return how much of the waited clock is explained."""
        return self.base_ns + self.charged_ns + self.settled_ns

    def read(self, waited: Waited) -> None:
        user = waited.user_ticks - self.waited.user_ticks
        system = waited.system_ticks - self.waited.system_ticks
        if user + system > 0:
            self.system_share = min(max(system / (user + system), 0.0), 1.0)
            self.waited = waited
        lacking_ns = self.known_ns - self.waited_ns - _CUT_NS
        if lacking_ns > 0:
            self.charged_ns -= lacking_ns


class EndedChildren:
    """Reckons poll by poll. ``cpus``: how many CPUs there are."""

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._parents: dict[ProcessKey, _Parent] = {}
        self._by_pid: dict[int, ProcessKey] = {}
        self._gone: list[EndedChild] = []
        self._heirs: dict[int, tuple[int, int]] = {}
        """By the PID of a process that has gone: its parent's, and until when that counts."""

    def open(self, key: ProcessKey, waited: Waited, since_ns: int) -> None:
        """Watch a process from now on; what it had ``waited`` for at ``since_ns`` does not count."""
        if key not in self._parents:
            self._parents[key] = _Parent(ns_of(waited), since_ns, waited)
        self._by_pid[key.pid] = key

    def read(self, key: ProcessKey, waited: Waited) -> None:
        """Take the waited clock of a process, read before the clocks of this poll."""
        parent = self._parents.get(key)
        if parent is not None:
            parent.read(waited)

    def stand(self, key: ProcessKey, now_ns: int) -> None:
        """Note that the waited clock of a process is unchanged at this time: it has not run since."""
        parent = self._parents.get(key)
        if parent is not None:
            parent.since_ns = now_ns

    def close(self, child: EndedChild, waited: Waited | None) -> None:
        """Note that a watched process has gone. ``waited``: its own clock, if one is known (of any poll)."""
        parent = self._parents.get(child.key)
        if parent is not None:
            if waited is not None:
                parent.read(waited)
            self._gone.append(child)

    def forget(self, key: ProcessKey) -> None:
        """Watch a process no longer; it lives on."""
        self._parents.pop(key, None)
        if self._by_pid.get(key.pid) == key:
            del self._by_pid[key.pid]

    def see_gone(self, foreign: Iterable[int], unseen: Mapping[int, int]) -> None:
        """Note that children that were not watched have been waited for; PIDs name the processes.

        ``foreign``: they had one that lived for a while. ``unseen``: CPU time in ns of those that had
        ended before a poll saw them, but were waited for later.
        """
        for pid in foreign:
            key = self._by_pid.get(pid)
            if key is not None:
                self._parents[key].foreign = True
        for pid, cpu_ns in unseen.items():
            key = self._by_pid.get(pid)
            if key is not None:
                self._parents[key].unseen_ns += cpu_ns

    def settle(self, keys: Iterable[ProcessKey], now_ns: int) -> list[Rest]:
        """Return the CPU time that has come to light, at the end of a poll.

        ``keys``: the processes whose waited clocks are known as of this poll.
        """
        rests: list[Rest] = []
        for pid, (_, until_ns) in list(self._heirs.items()):
            if until_ns < now_ns:
                del self._heirs[pid]
        # Children before their parents.
        gone, self._gone = self._gone, []
        for child in sorted(gone, key=lambda child: (child.key.start_ticks, child.key.pid))[::-1]:
            parent = self._parents[child.key]
            rests += self._settle_one(child.key, parent, child.group, now_ns)
            self._pass_on(child, parent.known_ns, now_ns)
        for child in gone:
            self.forget(child.key)
            self._heirs[child.key.pid] = (child.parent, now_ns + _INHERITED_FOR_NS)
        for key in keys:
            one = self._parents.get(key)
            if one is not None:
                rests += self._settle_one(key, one, None, now_ns)
        return rests

    def _pass_on(self, child: EndedChild, waited_ns: int, now_ns: int) -> None:
        """Pass on to the parent's books what its waited clock has, or will have, by a child."""
        pid = child.parent
        for _ in range(len(self._heirs) + 1):
            key = self._by_pid.get(pid)
            if key is not None:
                parent = self._parents[key]
                parent.charged_ns += child.charged_ns + waited_ns
                parent.claims.append(_Claim(child, max(now_ns - child.read_ns, 0)))
                return
            if pid not in self._heirs:
                return
            pid = self._heirs[pid][0]

    def _settle_one(
        self, key: ProcessKey, parent: _Parent, group: Group | None, now_ns: int
    ) -> list[Rest]:
        rest_ns = parent.waited_ns - parent.known_ns
        most_ns = (max(now_ns - parent.since_ns, 0) + _LATE_NS) * self._cpus + parent.unseen_ns
        parent.since_ns = now_ns
        foreign, parent.foreign, parent.unseen_ns = parent.foreign, False, 0
        claims = parent.older_claims + parent.claims
        parent.older_claims, parent.claims = parent.claims, []
        if rest_ns <= 0:
            return []
        parent.settled_ns += rest_ns
        left_ns = min(rest_ns, most_ns)
        rests = []
        claimed_ns = sum(claim.most_ns for claim in claims)
        for claim in claims:
            cpu_ns = min(claim.most_ns * left_ns // max(claimed_ns, 1), claim.most_ns)
            claimed_ns -= claim.most_ns
            claim.most_ns -= cpu_ns
            left_ns -= cpu_ns
            if cpu_ns > 0:
                child = claim.child
                rests.append(
                    Rest(child.key, child.group, child.series, cpu_ns, parent.system_share)
                )
        if left_ns > 0 and not foreign:
            rests.append(Rest(key, group, None, left_ns, parent.system_share))
        return rests
