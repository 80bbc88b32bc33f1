"""What child processes use that live for less than some polls, against what the kernel says of them.

In a PID namespace of its own (``python -m tests.integration.test_ended_children``): the processes of other
tests are none of ours, and cost time in each poll.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests import testbed
from tests.books import SECOND
from tests.harness import run_in_pid_namespace
from tests.loads import Load, Watch
from tests.testbed import Interpreter
from threadwatch.model.keys import UNATTRIBUTED
from threadwatch.model.readings import NS_PER_TICK
from threadwatch.procfs import parse_waited

INTERVAL = 0.5
TOOK = 2.5
CUT_NS = 2 * NS_PER_TICK
"""What the clock of ended children of one process can lack."""


def test_children_of_a_moment() -> None:
    """A group has the CPU time of its ended children, by every start method, within 1 %."""
    run_in_pid_namespace(__name__)


class Family:
    """A program with its children, and a poller that watches no other process."""

    def __init__(self, interpreter: Interpreter, kind: str, seconds: float) -> None:
        self.kind = f"{interpreter} {kind} {seconds}"
        self.seconds = seconds
        self.watch = Watch()
        arguments = map(str, (kind, seconds, TOOK))
        self.load = Load(interpreter, "offspring.py", self.watch.mark, *arguments)
        self.children_ns = 0
        self.pids: list[int] = []
        self.made = 0

    def true_ns(self) -> int:
        """Return what the kernel says of its living processes, and of children that they have waited for."""
        return sum(time.clock_gettime_ns((~pid << 3) | 2) + waited_ns(pid) for pid in self.pids)

    def settle(self) -> int:
        """Poll until nothing changes any more; gives the CPU time of the group."""
        self.watch.settle()
        seen = [0, 0]

        def rests() -> bool:
            seen.append(self.watch.group.cpu_ns)
            return len(set(seen[-3:])) == 1

        self.watch.poll_until(rests, "the last child to be settled")
        return self.watch.group.cpu_ns


def waited_ns(pid: int) -> int:
    """Return what a process's ended children have used, as the kernel shows it."""
    return sum(parse_waited(Path(f"/proc/{pid}/stat").read_bytes())) * NS_PER_TICK


def run(families: list[Family]) -> None:
    """Let them all do their work at the same time, and poll them meanwhile."""
    for family in families:
        family.watch.meet(family.load)
    left = list(families)
    due = time.monotonic()
    while left:
        time.sleep(max(due - time.monotonic(), 0))
        due = time.monotonic() + INTERVAL
        for family in families:
            family.watch.poll()
        left = [family for family in left if not family.load.has_spoken()]
    for family in families:
        said = family.load.hear("done")
        family.children_ns, family.pids = said["children_ns"], said["pids"]
        family.made = said["made"]


def each(families: list[Family], check: Callable[[Family], None]) -> None:
    """Run them, and check each of them; then let go of all."""
    try:
        run(families)
        for family in families:
            check(family)
    finally:
        for family in families:
            family.watch.close()
            family.load.close()


def said(family: Family) -> str:
    """Return what to print of it, settled."""
    group = family.watch.group
    shown_ns, true_ns = group.cpu_ns, family.true_ns()
    named_ns = shown_ns - family.watch.cpu.get(UNATTRIBUTED, 0)
    text = (
        f"{family.kind}: {shown_ns / 1e9:.3f} of {true_ns / 1e9:.3f} s, of children "
        f"{family.children_ns / 1e9:.3f}; {named_ns / shown_ns:.1%} with a name, "
        f"{group.ended_children_ns / 1e9:.3f} s of children without"
    )
    print(text)
    return text


def whole(family: Family) -> None:
    """Check that all that the kernel counts is in the group, and nothing twice."""
    shown_ns = family.settle()
    true_ns = family.true_ns()
    text = said(family)
    slack_ns = CUT_NS * (len(family.pids) + 1)
    assert abs(shown_ns - true_ns) <= slack_ns + 0.01 * true_ns, text
    assert family.children_ns <= true_ns + slack_ns, text
    # what samples have not seen of children is nameless at most: no more than that bears no name
    nameless_ns = family.watch.cpu.get(UNATTRIBUTED, 0)
    assert family.watch.group.ended_children_ns <= nameless_ns, text


def orphans(family: Family) -> None:
    """Check that children of another process are charged as far as they were seen, and hide nothing else."""
    shown_ns = family.settle()
    true_ns = family.true_ns()
    text = said(family)
    assert true_ns - shown_ns <= CUT_NS, text
    assert shown_ns - true_ns <= family.made * family.seconds * SECOND + 2 * CUT_NS, text


def nobodys(family: Family) -> None:
    """Check that only seen CPU time of children is there, where the kernel counts no ended ones."""
    orphans(family)
    assert family.children_ns == 0
    assert family.watch.group.ended_children_ns == 0


def foreign(family: Family) -> None:
    """Check that a program that is not watched, and lives for some polls, is in no group, nor is its end."""
    shown_ns = family.settle()
    text = said(family)
    own_ns = time.clock_gettime_ns((~family.pids[0] << 3) | 2)
    assert family.children_ns > SECOND, text
    assert shown_ns - own_ns <= 0.1 * family.children_ns, text


def main() -> None:
    """Run pools on all interpreters, and other ways on one, in the namespace."""
    for method in ("fork", "spawn", "forkserver"):
        each([Family(one, method, 0.1) for one in testbed.interpreters()], whole)
    python = testbed.require(3, 12)
    kinds: dict[str, Callable[[Family], None]] = {
        "fork": whole,
        "os.fork": whole,
        "nested": whole,
        "shell": whole,
        "double": orphans,
        "ignored": nobodys,
        "program": foreign,
    }
    # a shell must not live for three polls, however busy the machine is
    seconds = {"fork": 0.5, "shell": 0.01}
    checks: dict[str, Callable[[Family], None]] = {}
    families = []
    for kind, check in kinds.items():
        families.append(Family(python, kind, seconds.get(kind, 0.1)))
        checks[families[-1].kind] = check
    each(families, lambda family: checks[family.kind](family))


if __name__ == "__main__":
    main()
