"""Opens the books of each process in the account, in its present group and by that group's rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from threadwatch.accounting.account import Account
from threadwatch.accounting.group import GroupRules
from threadwatch.config.settings import GroupConfig, NameRule
from threadwatch.labels.groups import ThreadNames, is_fixed
from threadwatch.labels.tasks import task_names
from threadwatch.poll.moment import Moment
from threadwatch.poll.parents import Parents
from threadwatch.targets.process import Membership, Process

_ASK_AGAIN = 32
"""Polls after which room is looked for again for the group of a process that is charged to ``(other)``."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """The books that a process has been given."""

    membership: Membership
    """The group and rules that it had then."""
    charged_to: str
    """The group that its books are in: ``(other)`` where there is no room for its own."""
    ask_again: int
    """The poll from which on room is looked for again, if the books are not in the process's own group."""


class Openings:
    """Opens the books of processes, and moves them to other groups."""

    def __init__(self, account: Account, parents: Parents) -> None:
        self._account = account
        self._parents = parents
        self._opened: dict[int, _Opened] = {}
        """By PID."""
        self._names: dict[tuple[NameRule, ...], tuple[ThreadNames, Callable[[str], str]]] = {}

    def clear(self) -> None:
        """Open the books of all processes anew: groups may have other rules now."""
        self._names.clear()
        self._opened.clear()

    def open(self, watched: Process, now: Moment, now_ns: int) -> None:
        """Have the account keep the process in its present group."""
        present = watched.membership
        opened = self._opened.get(watched.key.pid)
        if opened is None or opened.membership is not present:
            opened = None
            self._parents.open(watched, now.started_ns, now.before_ns)
        elif opened.charged_to == present.group or now.poll < opened.ask_again:
            return
        charged_to = self._account.open(
            watched.key,
            present.group,
            self._rules_of(present.config),
            now_ns,
            watched.facts.uid,
            present.place,
        )
        self._opened[watched.key.pid] = _Opened(present, charged_to, now.poll + _ASK_AGAIN)
        if opened is not None and opened.charged_to == charged_to:
            return
        watched.threads.show_all_again()  # their labels may be others now
        watched.threads.look_at_all_again()  # and so may be whether they are looked at

    def close(self, watched: Process) -> None:
        """Forget a process that has been let go of."""
        self._opened.pop(watched.key.pid, None)

    def _rules_of(self, config: GroupConfig) -> GroupRules:
        threads = config.threads
        if threads.rules not in self._names:
            made = ThreadNames(threads.rules)
            self._names[threads.rules] = made, task_names(made)
        names, tasks = self._names[threads.rules]
        return GroupRules(
            threads.per,
            threads.cap,
            names.series_name,
            config.expire_after_ns,
            tasks,
            config.tasks.blocked_after_ns,
            fixed=is_fixed(config.name),
        )
