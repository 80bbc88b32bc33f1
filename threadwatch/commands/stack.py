"""``threadwatch stack`` prints the Python stacks of one process's threads, once, by py-spy."""

from __future__ import annotations

import fnmatch
import json
import sys
from collections.abc import Sequence

from threadwatch.closeup.python_stacks import python_stacks
from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.config.settings import sampled_often
from threadwatch.errors import Unusable
from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS
from threadwatch.procfs.own import raise_file_limit
from threadwatch.words.stack_text import pair, stack_json, stack_lines
from threadwatch.words.style import Style
from threadwatch.words.text import printable

_WAIT_RATE = 50
"""Samples per second of what its threads wait for."""
_SECONDS = 0.2
"""How long these are taken."""


def stack(pid: int, which: Sequence[str], *, as_json: bool, nonblocking: bool) -> int:
    """Print the stacks of all threads of a process, or of those that ``which`` names; return the exit code.

    ``which``: TIDs, and names in which ``*`` stands for anything.

    :raises Unusable: there is no such process or thread, or py-spy cannot read it.
    """
    process = _process(pid)
    threads = _choose(process, which)
    paired = pair(threads, python_stacks(pid, nonblocking=nonblocking))
    if as_json:
        json.dump(stack_json(paired), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        for line in stack_lines(process, paired, columns=Style.of_stdout().columns):
            print(line)
    return 0


def _process(pid: int) -> ProcessView:
    raise_file_limit()
    config = sampled_often(DEFAULT_CONFIG, _WAIT_RATE)
    poller = Poller(ProcFS(), config, report=lambda _: None, thorough=True)
    try:
        poller.always_watch(frozenset({pid}))
        poller.poll()
        poller.sample_for(_SECONDS)
        for process in poller.poll().processes:
            if process.key.pid == pid:
                return process
    finally:
        poller.close()
    raise Unusable(f"stack: there is no process {pid}, or it cannot be seen")


def _choose(process: ProcessView, which: Sequence[str]) -> list[ThreadView]:
    chosen: set[int] = set()
    for word in which:
        found = {
            thread.tid
            for thread in process.threads
            if word == str(thread.tid) or fnmatch.fnmatchcase(thread.name, word)
        }
        if not found:
            names = ", ".join(sorted({printable(thread.name) for thread in process.threads}))
            raise Unusable(
                f"stack: process {process.key.pid} has no thread {word!r}; there are: {names}"
            )
        chosen |= found
    return [thread for thread in process.threads if not which or thread.tid in chosen]
