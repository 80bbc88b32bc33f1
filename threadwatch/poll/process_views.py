"""Keeps the views of single processes and their threads, while a client asks for them."""

from __future__ import annotations

from collections.abc import Collection

from threadwatch.accounting.account import Account
from threadwatch.model.keys import ProcessKey
from threadwatch.model.view import ProcessView
from threadwatch.targets.process import Process


class ProcessViews:
    """Keeps each process's view up to date, from one poll to the next."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._views: dict[ProcessKey, ProcessView] = {}

    def show(
        self, processes: Collection[Process], poll: int, before_ns: int
    ) -> tuple[ProcessView, ...]:
        """Return all processes and their threads. The poll before this one began at ``before_ns``."""
        before, self._views = self._views, {}
        for watched in processes:
            view = before.get(watched.key)
            last = watched.last
            if last.poll and (view is None or view.cpu_ratio is None or last.poll == poll):
                # at rest in the last poll: all that it used, it used since
                elapsed_ns = None
                if view is not None:
                    elapsed_ns = max(last.time_ns - (last.before_ns or before_ns), 1)
                view = self._made(watched, view, elapsed_ns)
            if view is not None:
                self._views[watched.key] = view
        return tuple(self._views.values())

    def forget(self) -> None:
        """Forget the views: no client asks for them any more."""
        self._views.clear()

    def _made(
        self, watched: Process, before: ProcessView | None, elapsed_ns: int | None
    ) -> ProcessView:
        clock_ns = watched.last.clock_ns
        ratio = None
        if before is not None and elapsed_ns is not None:
            ratio = max(clock_ns - before.cpu_ns, 0) / elapsed_ns
        facts, names = watched.facts, watched.names
        return ProcessView(
            key=watched.key,
            ppid=facts.ppid,
            uid=facts.uid,
            group=self._account.group_of(watched.key),
            comm=facts.comm,
            cmdline=facts.cmdline,
            names_from=names.names_from,
            python=names.python,
            cpu_ns=clock_ns,
            cpu_ratio=ratio,
            threads=self._account.views(watched.key, elapsed_ns),
        )
