"""Reads names from the memory of real processes, and holds them against what those know of themselves.

``python -m tests.names_outside [PAIRS [VERSION…]]`` is the long torture: that many pairs of TID and name on
each interpreter, all side by side. Prints what it has seen, and ends with 1 if a name was wrong.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import testbed
from tests.harness import DEADLINE, TARGETS, environ
from threadwatch.errors import Gone, ReadError
from threadwatch.names.memory.following import Following
from threadwatch.names.memory.interpreter import FIRST_LOOK, find_python
from threadwatch.names.memory.snapshot import Memory, Snapshot
from threadwatch.names.memory.walk import Python
from threadwatch.procfs import ProcFS, parse_stat
from threadwatch.procfs.reader import ProcessDir
from threadwatch.publisher.layout import encode_name

PAIRS = 50_000
_RENAMED = re.compile(r"(?:r|([a-z])\1{7,46}):([0-9]+)")


class Unlimited:
    """A process that may have everything read."""

    def allows(self) -> bool:
        """Return whether more may be read: it may."""
        return True

    def spend(self, slots: int) -> None:
        """Take note of nothing."""


class Outside:
    """One process as it is seen from outside: its threads, and the names that are told of them."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.dir: ProcessDir = ProcFS().open_process(pid)
        with contextlib.ExitStack() as opened:
            opened.callback(self.dir.close)
            self.memory = self.dir.open_memory()
            self.following = Following(self.look(), pid)
            opened.pop_all()
        self._threads: dict[int, int] | None = None

    def look(self) -> Python:
        """Return the Python in it."""
        auxv = self.dir.read("auxv", "auxv")
        return find_python(Snapshot(self.memory, FIRST_LOOK), auxv, self.pid)

    def threads(self) -> dict[int, int]:
        """Return the start time of each thread by its TID."""
        found = {}
        for tid in self.dir.tids():
            with contextlib.suppress(Gone):
                found[tid] = parse_stat(self.dir.read_task(tid, "stat")).start_ticks
        return found

    def read(self) -> dict[int, int]:
        """Read names, and say which threads there were."""
        before, threads = self._threads, self.threads()
        changed = None
        if before is not None:
            changed = {tid for tid, _ in before.items() ^ threads.items()}
        self._threads = threads
        self.following.update(self.memory, threads, (), Unlimited(), changed)
        return threads

    def names(self) -> dict[int, str]:
        """Return the names that are told after three readings, by TID."""
        self.read()
        threads = self.threads()
        confirm(self.following, self.memory, threads)
        return self.told(threads)

    def told(self, threads: dict[int, int]) -> dict[int, str]:
        """Return the names that are told of those threads."""
        told = ((tid, self.following.name_of(tid, start)) for tid, start in threads.items())
        return {tid: name.name for tid, name in told if name is not None}

    def close(self) -> None:
        """Let go of it."""
        self.dir.close()


def confirm(following: Following, memory: Memory, threads: dict[int, int]) -> None:
    """Read names a third time, each as soon as it is due."""
    deadline = time.monotonic() + DEADLINE
    following.confirm(memory, threads)
    while following.pending:
        assert time.monotonic() < deadline, "names stay pending"
        following.confirm(memory, threads)


class Target:
    """The program ``name_storm.py`` on one interpreter."""

    def __init__(self, interpreter: testbed.Interpreter, *arguments: str) -> None:
        self.interpreter = interpreter
        self._process = subprocess.Popen(
            [
                *(*interpreter.command, "-W", "ignore"),
                *(str(TARGETS / "name_storm.py"), *arguments),
            ],
            env=environ("plain", {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid: int = self._answer()

    def ask(self, command: str) -> Any:
        """Have it do that; its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()
        return self._answer()

    def kept_names(self) -> dict[int, str]:
        """Return what it calls its threads, as it is kept: cut, and without lone surrogates."""
        return as_kept(self.ask("report"))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], DEADLINE)[0], "no answer"
        return json.loads(self._process.stdout.readline())


def as_kept(report: list[tuple[int, list[int]]]) -> dict[int, str]:
    """Return by TID the names of a report, as they are kept."""
    return {tid: encode_name("".join(map(chr, name)))[0].decode() for tid, name in report}


@contextlib.contextmanager
def started(interpreter: testbed.Interpreter, *arguments: str) -> Iterator[Target]:
    """Return the program, which ends with the context."""
    target = Target(interpreter, *arguments)
    try:
        yield target
    finally:
        target.close()


class Storm:
    """A process whose threads are renamed, start and end all the time, and what is read of it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.pairs = self.polls = self.named = self.living = 0
        self.errors: Counter[str] = Counter()
        self._seen: set[tuple[int, str]] = set()
        target.ask("renamers 3")
        self._renamers = {}
        for tid, name in target.kept_names().items():
            if found := _RENAMED.fullmatch(name):
                self._renamers[tid] = found[2]
        assert len(self._renamers) == 3
        target.ask("short 3")
        self._outside = Outside(target.pid)
        self._threads: dict[int, int] = {}

    def begin(self) -> None:
        """Read names twice."""
        try:
            self._threads = self._outside.read()
        except ReadError as error:
            self.errors[str(error)] += 1

    def end(self) -> None:
        """Read them a third time, and take down what is told."""
        confirm(self._outside.following, self._outside.memory, self._threads)
        told = self._outside.told(self._threads)
        self._seen.update(told.items())
        self.polls += 1
        self.pairs += len(told)
        self.living += len(self._threads)

    def wrong(self) -> list[tuple[int, str]]:
        """Return the pairs that were told and are not true. Ends the storm."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "log.json"
            self.target.ask(f"finish {path}")
            true = defaultdict(set)
            for tid, name in json.loads(path.read_text()):
                true[tid].add(name)
        self._outside.close()
        return [pair for pair in sorted(self._seen) if not self._is_true(*pair, true)]

    def _is_true(self, tid: int, name: str, true: dict[int, set[str]]) -> bool:
        if tid in self._renamers:
            found = _RENAMED.fullmatch(name)
            return found is not None and found[2] == self._renamers[tid]
        if tid in true:
            return name in true[tid]
        return name == "MainThread" or name.startswith("starter-")

    def __str__(self) -> str:
        share = 100 * self.pairs / max(self.living, 1)
        return (
            f"{self.target.interpreter.release}: {self.pairs:,} pairs, {len(self._seen):,} different, in "
            f"{self.polls:,} polls; {share:.0f} % of the living threads named; {dict(self.errors)}"
        )


def weather(storms: list[Storm], pairs: int, seconds: float) -> None:
    """Read all of them in turns until this many pairs have been read of each, or for this long."""
    deadline = time.monotonic() + seconds
    while min(storm.pairs for storm in storms) < pairs:
        if time.monotonic() > deadline:
            return
        for storm in storms:
            storm.begin()
        for storm in storms:
            storm.end()


def main(arguments: list[str]) -> int:
    """Run the long torture."""
    testbed.enter()
    pairs = int(arguments[0]) if arguments else PAIRS
    chosen = [i for i in testbed.interpreters() if not arguments[1:] or str(i) in arguments[1:]]
    failed = 0
    with contextlib.ExitStack() as stack:
        storms = [Storm(stack.enter_context(started(interpreter))) for interpreter in chosen]
        weather(storms, pairs, DEADLINE * 60)
        for storm in storms:
            wrong = storm.wrong()
            failed |= bool(wrong)
            print(f"{storm}; {len(wrong)} wrong {wrong[:5]}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
