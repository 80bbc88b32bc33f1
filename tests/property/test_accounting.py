"""No CPU time is lost or counted twice, and no counter falls, whatever happens to threads and processes.

Hypothesis makes up histories: births, deaths (published or not, seen or not), renames, TIDs and PIDs used
again, polls that see all threads, some, or do not list them, polls that never come, changes of group,
expiry. A simple model, the kernel's side, knows the true CPU time of each thread. The account gets
samples of it, as polls would take them, and is held against it after each.

Two kernels are modelled: one that books threads and process at the same moments, as Linux does
today, and one whose process clock runs ahead of a running thread's by up to a tick. And the threads are
read a moment after the process clock, in which they run on, end, and are born.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.books import MS, PYTHON, SECOND, fallen, threads_ns
from threadwatch.accounting.account import Account
from threadwatch.accounting.exit_tails import TAIL_NS
from threadwatch.accounting.group import GroupRules
from threadwatch.model.keys import OTHER, UNATTRIBUTED, ProcessKey
from threadwatch.model.readings import EndedThread, ProcessReading, ThreadReading, Waits
from threadwatch.model.view import GroupView

TICK_NS = 10 * MS
EXPIRE_NS = 1000 * SECOND
NAMES = st.sampled_from(("a", "b", "c"))
GROUPS = st.sampled_from(("shop", "bakery"))
WORK = st.integers(0, 40 * MS)
MOMENT = st.integers(0, 3 * MS)
SEED = st.integers(0, 2**16)
PIDS = (100, 200)
WAITS = ("running", "gil", "lock", "disk", "sleep")
TIDS = range(1, 5)
"""Added to the PID: few, so that they are used again."""


@dataclass(slots=True, eq=False)
class Life:
    """A thread that lives."""

    tid: int
    start: int
    name: str
    serial: int | None
    """Its number in the publisher's table; None: it is not published."""
    cpu: int = 0
    lag: int = 0
    """How far its own clock is behind."""
    charged: int = 0
    """What polls have seen of it."""
    seen: str = ""
    """Its name as the last poll saw it; empty: none has."""
    silent: bool = False
    """It will publish itself, but has not yet."""
    doomed: bool = False
    """Its end is published, but the kernel still shows it."""
    late: bool = False
    """It is born, and ends, after the next poll has listed the threads."""
    listed: bool = False
    """A poll has seen that it lives."""
    visitor: bool = False
    """It is of C, and another one to Python each time that it calls that."""
    told: int = 0
    """What its last published end says that it has used."""
    heard: EndedThread | None = None
    """The last end that was read while it lived: what that says is charged when it has gone."""
    shown: tuple[object, ...] | None = None
    """As what it was when it was last read in full: while that holds, its clocks may be all that is read."""

    @property
    def identity(self) -> tuple[int, int]:
        """Return the identity by which polls tell it apart."""
        return self.tid, self.start


@dataclass(frozen=True, slots=True)
class Times:
    """The clocks of a thread."""

    identity: tuple[int, int]
    cpu_ns: int
    runqueue_ns: int
    timeslices: int


@dataclass(slots=True)
class Process:
    """A process that lives, and what its kernel knows."""

    key: ProcessKey
    group: str
    publishes: bool
    threads: dict[int, Life] = field(default_factory=dict)
    dead: int = 0
    """CPU time of the threads that have ended."""
    ends: list[tuple[Life, EndedThread]] = field(default_factory=list)
    """Published, and not asked for yet."""
    departed: list[Life] = field(default_factory=list)
    """Threads that have gone since the last poll, of which an end had been read before."""
    serials: int = 0
    clock: int = 0
    """As the last poll read it."""
    worst_lag: int = 0
    """The largest sum of lags that a poll has met."""
    open: int = 0
    """What is told and cannot be charged before the next poll: ends of polls that did not list the threads,
    and ends whose room threads have taken that ran on after the process clock was read."""
    settled: bool = True
    """The last poll has left nothing open."""
    opened: str | None = None

    @property
    def cpu(self) -> int:
        """Return the process clock."""
        return self.dead + sum(life.cpu for life in self.threads.values())


class Histories(RuleBasedStateMachine):
    """The kernel and the publishers on one side, the account on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.account = Account()
        self.now_ns = 10_000 * SECOND
        self.ticks = 1_000_000
        self.lagging = False
        self.processes: dict[int, Process] = {}
        self.ended_ns = 0
        """CPU time of the processes that have ended."""
        self.polled_ns = 0
        """Of these, what the last poll of each had read."""
        self.lag_ns = 0
        """Of these, the worst lags."""
        self.truth: Counter[tuple[str, str]] = Counter()
        """What was used by (group, name), as far as polls and published ends have told."""
        self.ends: Counter[str] = Counter()
        """How many threads have ended, by name."""
        self.explained = True
        """Every end was published."""
        self.hidden_ns = 0
        """How much of the tails of ended threads can have been missed: what ran while a poll read can hide
        them for longer than they are waited for, and names expire before their tails come to light."""
        self.late_ns = 0
        """What could not be charged in the poll that told of it, nor in the next one, or not in its group or
        to its name; and what the clocks of threads were behind, which is (unattributed) by then."""
        self.moved = False
        """A process has changed its group."""
        self.views: tuple[GroupView, ...] = ()
        self.looked_ns = 0
        """When they were looked at."""
        self.lived_ns = 0
        """The time of all threads in the books."""
        self.gone: Counter[str] = Counter()
        """What groups that have expired had."""

    @initialize(lagging=st.booleans())
    def kernel(self, lagging: bool) -> None:  # noqa: FBT001  # Hypothesis gives it by keyword
        """Choose one of the two kernels."""
        self.lagging = lagging

    # What happens on the host.

    @rule(group=GROUPS, publishes=st.booleans(), cpu=WORK)
    @precondition(lambda self: len(self.processes) < len(PIDS))
    def start_process(self, group: str, publishes: bool, cpu: int) -> None:  # noqa: FBT001  # as above
        """Start a process, with a PID that another one may have had."""
        self.ticks += 1
        pid = next(pid for pid in PIDS if pid not in self.processes)
        process = Process(ProcessKey(pid, self.ticks), group, publishes)
        self.processes[pid] = process
        self._birth(process, 0, "a").cpu = cpu

    @rule(pick=SEED, name=NAMES, cpu=WORK, published=st.booleans(), silent=st.booleans())
    @precondition(lambda self: self.processes)
    def start_thread(
        self,
        pick: int,
        name: str,
        cpu: int,
        published: bool,  # noqa: FBT001  # as above
        silent: bool,  # noqa: FBT001  # as above
    ) -> None:
        """Start a thread, with a TID that another one may have had."""
        process = self._process(pick)
        free = [tid for tid in TIDS if process.key.pid + tid not in process.threads]
        if free:
            self.ticks += 1
            life = self._birth(process, free[pick % len(free)], name, published=published)
            life.cpu = cpu
            life.silent = silent and life.serial is not None

    @rule(pick=SEED, cpu=WORK, lag=st.integers(0, TICK_NS))
    @precondition(lambda self: self.processes)
    def run(self, pick: int, cpu: int, lag: int) -> None:
        """Have a thread use CPU time."""
        self._work(self._life(pick)[1], cpu, lag)

    @rule(pick=SEED, name=NAMES)
    @precondition(lambda self: self.processes)
    def rename(self, pick: int, name: str) -> None:
        """Give a thread another name."""
        self._life(pick)[1].name = name

    @rule(pick=SEED, name=NAMES, cpu=WORK, tail=st.integers(0, TAIL_NS // 2), told=st.booleans())
    @precondition(lambda self: self.processes)
    def end_thread(self, pick: int, name: str, cpu: int, tail: int, told: bool) -> None:  # noqa: FBT001  # as above
        """Give a thread its last name and end it; it runs on for a moment after that has been published."""
        process, life = self._life(pick)
        if life.tid != process.key.pid:
            life.name = name
            life.cpu += cpu
            self._death(process, life, tail, told=told)

    @rule(pick=SEED, name=NAMES, cpu=WORK, count=st.integers(1, 5), told=st.booleans())
    @precondition(lambda self: self.processes)
    def short_lives(self, pick: int, name: str, cpu: int, count: int, told: bool) -> None:  # noqa: FBT001  # as above
        """Threads start and end, one after the other, between two polls."""
        process = self._process(pick)
        if process.key.pid + 9 not in process.threads:
            for _ in range(count):
                self.ticks += 1
                life = self._birth(process, 9, name)
                life.cpu = cpu
                self._death(process, life, pick % (TAIL_NS // 2), told=told)

    @rule(pick=SEED, tail=st.integers(0, TAIL_NS // 2), late=st.booleans())
    @precondition(lambda self: self.processes)
    def linger(self, pick: int, tail: int, late: bool) -> None:  # noqa: FBT001  # as above
        """Have a thread publish its end, but take its time with it."""
        process, life = self._life(pick)
        if late and process.publishes and process.key.pid + 8 not in process.threads:
            self.ticks += 1
            life = self._birth(process, 8, "c")
            life.cpu, life.late = pick, True
        if life.serial is not None and life.tid != process.key.pid and not life.visitor:
            self._tell(process, life)
            life.doomed, life.silent = True, False
            life.cpu += tail

    @rule(pick=SEED)
    @precondition(lambda self: self.processes)
    def let_go(self, pick: int) -> None:
        """Have the kernel let go of those that have lingered."""
        process = self._process(pick)
        for life in [life for life in process.threads.values() if life.doomed and not life.late]:
            process.dead += life.cpu
            del process.threads[life.tid]

    @rule(pick=SEED, told=st.booleans())
    @precondition(lambda self: self.processes)
    def publish_anew(self, pick: int, told: bool) -> None:  # noqa: FBT001  # as above
        """Have a publisher take a living thread for another, and perhaps call that an end."""
        process, life = self._life(pick)
        if life.serial is not None and life.seen:
            if told:
                slot = (process.key.start_ticks, life.serial)
                end = EndedThread(slot, life.tid, life.name, None, visitor=life.visitor)
                process.ends.append((life, end))
                self.ends[life.name] += 1
            process.serials += 1
            life.serial = process.serials

    @rule(pick=SEED, name=NAMES, count=st.integers(1, 4), cpu=WORK)
    @precondition(lambda self: self.processes)
    def visit(self, pick: int, name: str, count: int, cpu: int) -> None:
        """Have a thread of C call Python a few times: for Python it is born and ends each time."""
        process, life = self._life(pick)
        if not process.publishes or life.tid == process.key.pid:
            return
        if life.serial is None or life.visitor:
            life.visitor = True
            for _ in range(count):
                process.serials += 1
                life.serial, life.name = process.serials, name
                life.cpu += cpu
                self._tell(process, life)

    @rule(pick=SEED, group=GROUPS)
    @precondition(lambda self: self.processes)
    def change_group(self, pick: int, group: str) -> None:
        """Have a process belong to another group."""
        self._process(pick).group = group

    @rule(pick=SEED)
    @precondition(lambda self: self.processes)
    def end_process(self, pick: int) -> None:
        """End a process; its table outlives it for as long as we look."""
        process = self._process(pick)
        del self.processes[process.key.pid]
        self._pass(SECOND)
        self.ended_ns += process.cpu
        self.polled_ns += process.clock
        self.lag_ns += process.worst_lag
        if process.opened is not None:
            self.explained = self.explained and process.settled
            self.ends.update(life.seen for life in process.threads.values())
            process.departed += [life for life in process.threads.values() if life.heard]
            process.threads.clear()
            self.account.close(process.key, self._told(process), self.now_ns)
        self._look()

    # What the daemon does.

    @rule(pick=SEED, moment=MOMENT)
    @precondition(lambda self: self.processes)
    def poll_all(self, pick: int, moment: int) -> None:
        """Read all threads of a process in a poll, while they run on."""
        process = self._process(pick)
        self._poll(process, list(process.threads.values()), listed=True, pick=pick, moment=moment)

    @rule(pick=SEED, moment=MOMENT)
    @precondition(lambda self: self.processes)
    def poll_some(self, pick: int, moment: int) -> None:
        """Read those threads that are new, and some others, in a poll."""
        process = self._process(pick)
        read = [
            life
            for life in process.threads.values()
            if not life.seen or life.silent or pick >> life.tid % 16 & 1
        ]
        self._poll(process, read, listed=True, pick=pick, moment=moment)

    @rule(pick=SEED, moment=MOMENT)
    @precondition(lambda self: self.processes)
    def poll_unlisted(self, pick: int, moment: int) -> None:
        """Read some known threads in a poll that does not ask for others."""
        process = self._process(pick)
        read = [
            life for life in process.threads.values() if life.seen and pick >> life.tid % 16 & 1
        ]
        self._poll(process, read, listed=False, pick=pick, moment=moment)

    @rule()
    def rest(self) -> None:
        """Let nothing run for a while: after that, everything must stand where it belongs."""
        for process in self.processes.values():
            for life in process.threads.values():
                life.lag = 0
            for _ in range(2):
                self._poll(process, list(process.threads.values()), listed=True)
        by_name: Counter[tuple[str, str]] = Counter()
        living: Counter[tuple[str, str]] = Counter()
        for group in self.views:
            for key, totals in group.series.items():
                by_name[group.name, key.thread] += totals.user_ns + totals.system_ns
                living[group.name, key.thread] += sum(totals.now.values())
        for where in by_name.keys() | self.truth.keys():
            beyond_ns = by_name[where] - self.truth[where]
            if where[1] == UNATTRIBUTED:
                assert not self.explained or self.lagging or beyond_ns <= self.hidden_ns
            elif where[1] != OTHER:
                # an end can claim its tail more than once
                most_ns = 2 * TAIL_NS * self.ends[where[1]] + self.late_ns
                assert -self.late_ns <= beyond_ns <= most_ns, where
        assert +living == Counter(
            (process.group, life.name)
            for process in self.processes.values()
            for life in process.threads.values()
        )

    @rule()
    def expire(self) -> None:
        """Let time pass for longer than names and groups are kept."""
        before = {group.name: group for group in self.views}
        self._pass(2 * EXPIRE_NS)
        net = self._net()
        self.hidden_ns += TAIL_NS * self.ends.total()
        open_ns = sum(process.open for process in self.processes.values())
        self.hidden_ns += open_ns
        self.late_ns += open_ns
        self._look()
        for group in self.views:
            kept = {key.thread for key in group.series}
            for name in [n for g, n in self.truth if g == group.name and n not in kept]:
                del self.truth[group.name, name]
        for name in before.keys() - {group.name for group in self.views}:
            totals = before[name].series.values()
            self.gone["cpu"] += before[name].cpu_ns
            self.gone["states"] += net[name]
            self.gone["started"] += sum(t.started for t in totals)
            self.gone["ended"] += sum(t.ended for t in totals)
            for where in [where for where in self.truth if where[0] == name]:
                del self.truth[where]

    # What must always hold.

    @invariant()
    def sums_are_the_process_clocks(self) -> None:
        """Check that all groups together have what process clocks say, and no more than threads have used."""
        booked = sum(group.cpu_ns for group in self.views) + self.gone["cpu"]
        processes = self.processes.values()
        read = self.polled_ns + sum(p.clock for p in processes)
        used = self.ended_ns + sum(p.cpu for p in processes)
        lag = self.lag_ns + sum(p.worst_lag for p in processes)
        assert read <= booked <= used + lag

    @invariant()
    def who_has_started_lives_or_has_ended(self) -> None:
        """Started less ended is the number of threads in all states."""
        series = [totals for group in self.views for totals in group.series.values()]
        started = sum(totals.started for totals in series) + self.gone["started"]
        ended = sum(totals.ended for totals in series) + self.gone["ended"]
        assert started - ended == sum(time.threads for s in series for time in s.states.values())
        assert started - ended == sum(sum(s.now.values()) for s in series)

    @invariant()
    def states_are_the_time_lived(self) -> None:
        """Check that the time in all states is that which threads have lived, and unseen threads have run."""
        net = sum(self._net().values()) + self.gone["states"]
        ran = sum(group.cpu_ns for group in self.views) + self.gone["cpu"]
        assert self.lived_ns <= net <= self.lived_ns + ran

    # The workings.

    def _process(self, pick: int) -> Process:
        return list(self.processes.values())[pick % len(self.processes)]

    def _life(self, pick: int) -> tuple[Process, Life]:
        lives = [
            (process, life)
            for process in self.processes.values()
            for life in process.threads.values()
            if not life.doomed
        ]
        return lives[pick % len(lives)]

    def _birth(self, process: Process, tid: int, name: str, *, published: bool = True) -> Life:
        serial = None
        if process.publishes and published:
            process.serials += 1
            serial = process.serials
        life = Life(process.key.pid + tid, self.ticks, name, serial)
        if tid == 0:
            life.start = process.key.start_ticks
        process.threads[life.tid] = life
        return life

    def _work(self, life: Life, cpu: int, lag: int) -> None:
        life.cpu += cpu
        life.lag = min(lag, cpu) if self.lagging else 0

    def _death(self, process: Process, life: Life, tail: int, *, told: bool) -> None:
        if told and life.serial is not None and not life.visitor:
            self._tell(process, life)
        elif not life.visitor or life.told < life.cpu:
            self.explained = False
            self.ends[life.seen or life.name] += 1
        life.cpu += tail
        process.dead += life.cpu
        del process.threads[life.tid]
        if life.heard is not None:
            process.departed.append(life)

    def _tell(self, process: Process, life: Life) -> None:
        assert life.serial is not None
        slot = (process.key.start_ticks, life.serial)
        end = EndedThread(slot, life.tid, life.name, life.cpu, visitor=life.visitor)
        process.ends.append((life, end))
        life.told = life.cpu
        self.ends[life.name] += 1

    def _told(self, process: Process) -> tuple[EndedThread, ...]:
        """Return the ends that are read now, and what becomes known by them."""
        assert process.opened is not None
        last = {life: end for life, end in process.ends if end.cpu_ns is not None}
        for life, end in process.ends:
            if life.seen and end is not last.get(life):
                continue  # of a thread that polls have seen, the last end has all that it used since
            if process.threads.get(life.tid) is life:
                life.heard = end
            else:
                self._charge_end(process.opened, life, end)
        for life in process.departed:
            if life not in last and life.heard is not None:
                self._charge_end(process.opened, life, life.heard)
        process.departed.clear()
        ends = tuple(
            replace(end, thread=life.identity) if life.listed else end for life, end in process.ends
        )
        process.ends.clear()
        return ends

    def _charge_end(self, group: str, life: Life, end: EndedThread) -> None:
        used = end.cpu_ns or 0
        self.truth[group, end.name] += max(used - life.charged, 0)
        life.charged = max(life.charged, used)

    def _poll(
        self, process: Process, read: list[Life], *, listed: bool, pick: int = 0, moment: int = 0
    ) -> None:
        self._pass(SECOND)
        if process.opened != process.group:
            rules = GroupRules("group", 200, str, EXPIRE_NS)
            self.account.open(process.key, process.group, rules, self.now_ns)
            self.moved = self.moved or process.opened is not None
            self.late_ns += process.open
            process.opened = process.group
        clock = process.dead + sum(life.cpu for life in process.threads.values() if not life.late)
        ran_ns = self._run_on(process, pick, moment)
        self.late_ns += min(process.open, ran_ns)
        process.open = ran_ns if listed else process.open + ran_ns
        lags = sum(life.lag for life in process.threads.values())
        process.worst_lag = max(process.worst_lag, lags)
        self.late_ns += lags
        # of threads whose end is told and that were not known, it is seen whether they live
        met = [end[0] for end in process.ends if not end[0].listed]
        lives = process.threads.values()
        read = [life for life in lives if life in read or life in met or life.late]
        for life in read if not listed else lives:
            life.listed = True
        unread = [life for life in lives if life not in read]
        samples = tuple(self._sample(process, life, pick) for life in read)
        full, times = [], []
        for life, sample in zip(read, samples, strict=True):
            shown = (process.group, life.identity, sample.name, sample.slot)
            if shown == life.shown and (pick ^ self.now_ns // SECOND) >> life.tid % 5 & 1:
                assert sample.runqueue_ns is not None
                assert sample.timeslices is not None
                times.append(
                    Times(life.identity, sample.cpu_ns, sample.runqueue_ns, sample.timeslices)
                )
            else:
                full.append(sample)
            life.shown = None if sample.name_pending else shown
        # what the clock may have of threads that were not read; of the dead too if the list was not
        # read
        unread_ns = clock if not listed else sum(life.cpu - life.charged for life in unread)
        for life, sample in zip(read, samples, strict=True):
            if not sample.name_pending:
                self.truth[process.group, life.name] += max(sample.cpu_ns - life.charged, 0)
                life.charged = max(life.charged, sample.cpu_ns)
                life.seen = life.name
            life.silent = False
        told_ns = self.truth.total()
        ends = self._told(process)
        process.open += 0 if listed else self.truth.total() - told_ns
        living = frozenset(life.identity for life in (*read, *unread)) if listed else None
        self.account.charge(
            ProcessReading(
                key=process.key,
                time_ns=self.now_ns,
                clock_ns=clock,
                user_ticks=clock // TICK_NS // 3,
                system_ticks=clock // TICK_NS // 2,
                threads=tuple(full),
                times=times,
                ended=ends,
                living=living,
                unread_ns=unread_ns,
                waits=self._waits(process, pick),
                has_gil=bool(pick & 1),
                names_from="published" if process.publishes else "comm",
                python=PYTHON if process.publishes else None,
            )
        )
        for life in process.threads.values():
            life.late = False
        process.settled = listed and not unread and not any(s.name_pending for s in samples)
        process.clock = max(process.clock, clock)
        self._look()
        open_ns = unread_ns + sum(sample.cpu_ns for sample in samples if sample.name_pending)
        for group in self.views:
            if group.name == process.group and not self.moved:
                others = sum(
                    p.cpu
                    for p in self.processes.values()
                    if p is not process and p.opened == group.name
                )
                assert 0 <= group.cpu_ns - threads_ns(group) <= open_ns + others

    def _run_on(self, process: Process, pick: int, moment: int) -> int:
        """Let a moment pass between the reading of the clock and of the threads; return what these run."""
        ran_ns = 0
        for life in process.threads.values():
            if moment and not life.doomed and pick >> life.tid % 16 & 1:
                self._work(life, moment, life.lag)
                ran_ns += moment
        self.hidden_ns += ran_ns
        return ran_ns

    def _sample(self, process: Process, life: Life, pick: int) -> ThreadReading:
        named = life.serial is not None and not life.silent
        return ThreadReading(
            tid=life.tid,
            start_ticks=life.start,
            name=life.name,
            source="published" if named else "comm",
            name_cut=False,
            slot=(process.key.start_ticks, life.serial) if named and life.serial else None,
            comm=life.name,
            state="RSDTZ"[(pick + life.tid) % 5],
            cpu_ns=life.cpu - life.lag,
            exact=True,
            user_ticks=pick % 7,
            system_ticks=pick % 5,
            runqueue_ns=life.cpu // 3,
            timeslices=life.cpu // 1000,
            voluntary_switches=None if pick % 3 else life.cpu // 2000,
            involuntary_switches=None,
            minor_faults=life.cpu // 4000,
            major_faults=0,
            read_bytes=None,
            write_bytes=None,
            last_cpu=0,
            name_pending=life.silent,
        )

    def _waits(self, process: Process, pick: int) -> dict[tuple[int, int], Waits] | None:
        """Return what samples have seen: more than can be, too, as they are not of the clocks' moments."""
        if not pick % 5:
            return None
        waits = {}
        for life in process.threads.values():
            if pick >> life.tid % 7 & 1:
                states = [WAITS[(pick + life.tid + step) % len(WAITS)] for step in range(3)]
                times = {state: (pick * step) % 400 * MS for step, state in enumerate(states)}
                waits[life.identity] = Waits(states[pick % 3], times, pick * MS % SECOND)
        return waits

    def _pass(self, ns: int) -> None:
        """Time passes, in some state for each thread that lives in the books."""
        self.lived_ns += ns * sum(
            time.threads
            for group in self.account._groups.values()
            for series in group.series.values()
            for time in series.states.values()
        )
        self.now_ns += ns

    def _net(self) -> dict[str, int]:
        """Return, by group, the time in all states, less what could not be taken back yet."""
        net = {}
        for group in self.views:
            shown = sum(
                time.at(self.now_ns)
                for totals in group.series.values()
                for time in totals.states.values()
            )
            books = self.account._groups[group.name]
            net[group.name] = shown - sum(
                sum(s.corrections.values()) for s in books.series.values()
            )
        return net

    def _look(self) -> None:
        groups = self.account.groups(self.now_ns)
        assert fallen(self.views, groups, self.looked_ns, self.now_ns) == []
        self.views, self.looked_ns = groups, self.now_ns


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
