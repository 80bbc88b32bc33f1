"""Holds samples of loops against what the loops of a real process have written down themselves.

The record can be judged while the program goes on writing it: see :func:`is_enough`.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct

from tests.targets.loops import BACK, LABELS, NOTHING, SELECTS
from threadwatch.model.loops import CALLBACK, LOOP, UNKNOWN, LoopSample

Taken = dict[int, list[tuple[int, int, LoopSample]]]
"""By TID: the moments before and after each sample, and the sample."""

SAMPLES = 150
"""So many of each thread are enough to tell how many of them are unknown."""
STRICT = 40
"""So many of them have to be taken within one step each, where only one answer is right."""
SLACK_NS = 1000
"""Between the clock as the loop reads it, in seconds, and as it is written down, in ns."""
MS_NS = 1_100_000
"""The same for uvloop, whose clock has milliseconds."""
GAP = "(what writes nothing down)"
"""Tasks and callbacks of the program that only start others, and those of asyncio itself."""
_PAIR = Struct("=QQ")
_FUNCTIONS = {"named-é": "named", "(callback) Callable": "Callable.__call__"}
"""The functions of steps that are not called after them."""


def _entries(file: Path) -> list[tuple[int, int]]:
    """Return what has been written down so far: moments, and the numbers of what began then.

    The last entry that is seen may be written just now; those before it are whole when they are read once
    more.
    """
    size = len(file.read_bytes().rstrip(b"\0"))
    whole = max(-(-size // _PAIR.size) - 1, 0)
    return list(_PAIR.iter_unpack(file.read_bytes()[: whole * _PAIR.size]))


class Truth:
    """What a loop has written down."""

    def __init__(self, file: Path, names: Sequence[str] = LABELS) -> None:
        """``names``: what the steps are called, in the order of LABELS."""
        self.names = names
        self.known = frozenset({None, LOOP, UNKNOWN, *names[BACK + 1 :]})
        entries = _entries(file)
        self._times = [moment for moment, _ in entries]
        self._what = [number for _, number in entries]

    def between(self, first_ns: int, last_ns: int) -> range:
        """Return the numbers of the entries that hold at some moment of that time."""
        first = bisect.bisect_right(self._times, first_ns) - 1
        return range(max(first, 0), bisect.bisect_right(self._times, last_ns))

    def ends_ns(self) -> int:
        """Return the moment of the last entry; 0: there is none yet."""
        return self._times[-1] if self._times else 0

    def may_be(self, entry: int) -> set[str | None]:
        """Return what may have the loop while an entry holds.

        While a step is taken, only that. Between two steps the loop itself, what has just written down its
        end or is about to write down its beginning, or what writes nothing down (see :data:`GAP`).
        """
        what = self._what[entry]
        if what > BACK:
            return {self.names[what]}
        if what == SELECTS:
            # On a CPU there, a loop in C does its own work, for all that can be seen.
            return {None} if self.names is LABELS else {None, LOOP}
        before = next((n for n in self._what[entry::-1] if n > BACK), NOTHING)
        after = next((n for n in self._what[entry:] if n > BACK), NOTHING)
        return {None, LOOP, GAP, *(self.names[n] for n in (before, after) if n > BACK)}

    def step_at(self, first_ns: int, last_ns: int) -> str | None:
        """Return the step that was taken all that time; None: there was none."""
        entries = self.between(first_ns, last_ns)
        if len(entries) != 1 or last_ns > self.ends_ns() or not self.is_step(entries[0]):
            return None
        return self.names[self._what[entries[0]]]

    def counts_within(self, first_ns: int, last_ns: int) -> bool:
        """Return whether the loop has counted an iteration between two moments, for sure.

        It counts between the last entry before it goes to its selector and the entry of that.
        """
        first, last = (bisect.bisect_right(self._times, at) for at in (first_ns, last_ns))
        return SELECTS in self._what[first + 1 : last]

    def may_count_within(self, first_ns: int, last_ns: int) -> bool:
        """Return whether the loop may have counted an iteration between two moments."""
        first, last = (bisect.bisect_right(self._times, at) for at in (first_ns, last_ns))
        return SELECTS in self._what[first : last + 1]

    def selects_after(self, at_ns: int) -> bool:
        """Return whether the loop has waited for events at that moment, or has gone to its selector since."""
        entry = bisect.bisect_right(self._times, at_ns) - 1
        return entry >= 0 and SELECTS in self._what[entry:]

    def waits_ns(self, at_ns: int) -> int:
        """Return how long an event waits that comes at that moment: until the loop goes to its selector."""
        entry = bisect.bisect_right(self._times, at_ns) - 1
        if self._what[entry] == SELECTS:
            return 0
        return self._times[self._what.index(SELECTS, entry)] - at_ns

    def spent_ns(self, first_ns: int, last_ns: int) -> Counter[str | None]:
        """Return for how long each step was taken between two moments; as None, how long the loop waited."""
        spent: Counter[str | None] = Counter()
        for entry in self.between(first_ns, min(last_ns, self.ends_ns() - 1)):
            what, (began_ns, end_ns) = self._what[entry], self._times[entry : entry + 2]
            if what not in (NOTHING, BACK):
                name = None if what == SELECTS else self.names[what]
                spent[name] += max(min(end_ns, last_ns) - max(began_ns, first_ns), 0)
        return spent

    def late_ns(self, first_ns: int, last_ns: int, bound_ns: int) -> int:
        """Return for how long, between two moments, an event would have had to wait for longer than that."""
        late_ns, back_ns = 0, first_ns
        for entry in self.between(first_ns, last_ns):
            if self._what[entry] == BACK:
                back_ns = self._times[entry]
            elif self._what[entry] == SELECTS:
                late_ns += max(self._times[entry] - max(back_ns, first_ns) - bound_ns, 0)
                back_ns = last_ns
        return late_ns

    def is_step(self, entry: int) -> bool:
        """Return whether a step is taken while an entry holds."""
        return self._what[entry] > BACK

    def began_ns(self, entry: int) -> tuple[int, int] | None:
        """Return between which moments the iteration began that runs in an entry; None: none does."""
        while (entry >= 0 and self._what[entry] > BACK) or self._what[entry] == NOTHING:
            entry -= 1
        if entry < 0 or self._what[entry] == SELECTS:
            return None
        after = (
            self._times[entry + 1] if entry + 1 < len(self._times) else self._times[entry] + 10**12
        )
        return self._times[entry], after


@dataclass
class Verdict:
    """How samples compare with the truth."""

    samples: int = 0
    strict: int = 0
    """Those taken within one step, so that only one answer was right."""
    seen: Counter[str | None] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    wrong_ages: list[str] = field(default_factory=list)
    lasting: bool = True
    """The loop is the same all the time. Of others, one can be in an iteration of the number that another
    was in, and cannot be told from that."""
    _before: tuple[int, int, LoopSample] | None = None

    def add(self, truth: Truth, taken: tuple[int, int, LoopSample]) -> None:
        """Judge a sample, taken between two moments."""
        start_ns, end_ns, sample = taken
        entries = truth.between(start_ns, end_ns)
        if end_ns > truth.ends_ns() or not entries:
            return  # nothing had been written down yet, or has been since
        self.samples += 1
        self.seen[sample.holder] += 1
        allowed: set[str | None] = set()
        for entry in entries:
            allowed |= truth.may_be(entry)
        self.strict += len(entries) == 1 and truth.is_step(entries[0])
        holder = GAP if sample.holder not in truth.known else sample.holder
        if holder not in allowed and holder != UNKNOWN:
            self.wrong.append(f"{sample.holder}, not {allowed}, in {end_ns - start_ns} ns")
        before = None
        if sample.iteration is not None:
            before, self._before = self._before, taken
            if before and not self.lasting and before[2].iteration == sample.iteration:
                return
        self._judge_age(truth, entries, start_ns, sample)
        if before is not None:
            self._judge_iteration(truth, before, taken)

    def is_enough(self, labels: Iterable[str]) -> bool:
        """Return whether there are enough samples to judge by, and all those labels were seen."""
        return self.samples >= SAMPLES and self.strict >= STRICT and self.seen.keys() >= set(labels)

    def _judge_age(self, truth: Truth, entries: range, start_ns: int, sample: LoopSample) -> None:
        if sample.age_ns is None:
            return
        if sample.age_ns == 0 and (len(entries) > 1 or not truth.is_step(entries[0])):
            return  # an iteration may have begun or ended meanwhile
        began = [found for entry in entries if (found := truth.began_ns(entry)) is not None]
        began_ns = start_ns - sample.age_ns
        if sample.iteration is not None:  # it is as old as that at least
            fits = any(first - MS_NS <= began_ns for first, _ in began)
        else:
            fits = any(first - SLACK_NS <= began_ns <= last + SLACK_NS for first, last in began)
        if not fits:
            self.wrong_ages.append(f"{sample} at {start_ns}: {began}")

    def _judge_iteration(
        self, truth: Truth, before: tuple[int, int, LoopSample], taken: tuple[int, int, LoopSample]
    ) -> None:
        """Judge the number of an iteration: it is another if the loop has gone to its selector since."""
        first, second = before[2], taken[2]
        if first.iteration == second.iteration:
            wrong = truth.counts_within(before[1] + SLACK_NS, taken[0])
        else:
            wrong = not truth.may_count_within(before[0], taken[1])
        if wrong:
            self.wrong_ages.append(f"iterations {before} {taken}")


def judge(
    files: dict[int, Path],
    taken: Taken,
    names: Sequence[str] = LABELS,
    *,
    lasting: bool = True,
) -> dict[int, Verdict]:
    """Hold samples against the truth, by TID. The last two are as in :class:`Truth` and :class:`Verdict`."""
    verdicts = {}
    for tid, file in files.items():
        truth, verdict = Truth(file, names), Verdict(lasting=lasting)
        for one in taken[tid]:
            verdict.add(truth, one)
        verdicts[tid] = verdict
    return verdicts


def functions(
    truth: Truth, taken: list[tuple[int, int, LoopSample]]
) -> list[tuple[str, str | None]]:
    """Return for each sample that was taken within one step: the step, and the function that was read."""
    return [
        (step, sample.function)
        for start_ns, end_ns, sample in taken
        if (step := truth.step_at(start_ns, end_ns)) is not None
    ]


def is_enough(
    files: dict[int, Path], taken: Taken, labels: Iterable[str], names: Sequence[str] = LABELS
) -> bool:
    """Return whether enough samples of each loop can be judged by now, as :meth:`Verdict.is_enough` says."""
    return all(verdict.is_enough(labels) for verdict in judge(files, taken, names).values())


def check(
    files: dict[int, Path], taken: Taken, labels: Iterable[str], names: Sequence[str] = LABELS
) -> None:
    """Check that nothing is wrong of any loop, that most is known of enough samples, and labels were seen."""
    for tid, verdict in judge(files, taken, names).items():
        assert not verdict.wrong, verdict.wrong[:3]
        assert not verdict.wrong_ages, verdict.wrong_ages[:3]
        assert verdict.is_enough(labels), f"{tid}: {verdict}"
        assert verdict.seen[UNKNOWN] <= verdict.samples // 10


def check_functions(
    file: Path, taken: list[tuple[int, int, LoopSample]], module: str, version: tuple[int, int]
) -> set[str | None]:
    """Check that each function that was read is that of the step, in the program ``module``; most were read.

    ``version``: that of the program's Python. None is right as well: it may have changed meanwhile. Return
    them.
    """
    told = functions(Truth(file), taken)
    assert len(told) >= STRICT
    for step, function in told:
        name = _FUNCTIONS.get(step, step.removeprefix(CALLBACK))
        if version < (3, 11):  # code has no qualified name
            name = name.rpartition(".")[2]
        assert function in {f"{module}.{name}", None}
    assert sum(function is None for _, function in told) <= len(told) // 10
    return {function for _, function in told}
