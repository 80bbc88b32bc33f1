"""``threadwatch ps`` prints the mapping of kernel threads to Python names, once."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from threadwatch import publish
from threadwatch.config.parse import load_config
from threadwatch.config.settings import sampled_often
from threadwatch.errors import ReadError
from threadwatch.model.view import ProcessView
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS
from threadwatch.procfs.own import raise_file_limit
from threadwatch.words.choose import choose
from threadwatch.words.ps_text import report
from threadwatch.words.style import Style
from threadwatch.words.to_json import process_json
from threadwatch.words.wording import left_out

_WAIT_RATE = 50
"""Samples per second of what threads wait for."""


def ps(
    what: Sequence[str],
    *,
    as_json: bool,
    interval: float,
    config_file: str | None,
    procfs: str,
) -> int:
    """Print all processes, or those that ``what`` names by PID or application; return the exit code.

    :raises ConfigError: the configuration cannot be used.
    :raises Unusable: there is no procfs, or nothing fits ``what``.
    """
    publish()  # with an interval, others can look at this process
    config = load_config(config_file)
    errors: list[ReadError] = []
    raise_file_limit()
    poller = Poller(
        ProcFS(procfs), sampled_often(config, _WAIT_RATE), report=errors.append, thorough=True
    )
    try:
        poller.always_watch(frozenset(int(word) for word in what if word.isdecimal()))
        view = poller.poll()
        if interval > 0:
            poller.sample_for(interval)
            view = poller.poll()
        chosen = choose(view, what, "ps")
    finally:
        poller.close()
    if as_json:
        json.dump([process_json(process) for process in chosen], sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        style = Style.of_stdout()
        for line in report(chosen, columns=style.columns, color=style.color):
            print(line)
        if not chosen:
            print("No Python process can be seen.")
    _say_what_is_hidden(chosen, errors)
    if poller.left_out and not all(word.isdecimal() for word in what or ["all"]):
        print(f"threadwatch: {left_out(poller.left_out)}", file=sys.stderr)
    return 0


def _say_what_is_hidden(chosen: Sequence[ProcessView], errors: Sequence[ReadError]) -> None:
    denied = {error.source for error in errors if error.reason == "denied"}
    if denied & {"fd", "table"} and any(not process.published for process in chosen):
        print(
            "threadwatch: the thread names of other users' processes are hidden; run as root, or with "
            "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
            file=sys.stderr,
        )
