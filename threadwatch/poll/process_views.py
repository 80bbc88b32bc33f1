"""How single processes and their threads are shown, while somebody asks for them."""

from __future__ import annotations

from collections.abc import Collection

from threadwatch.accounting.account import Account
from threadwatch.model.view import ProcessView, ThreadView
from threadwatch.targets.process import Watched


class ProcessViews:
    """Keeps each process's view up to date, from one poll to the next."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._kept = False

    def show(
        self, processes: Collection[Watched], poll: int, before_ns: int
    ) -> tuple[ProcessView, ...]:
        """All processes and their threads. The poll before this one began at ``before_ns``."""
        self._kept = True
        for watched in processes:
            view = watched.view
            if watched.polled and (
                view is None or view.cpu_ratio is None or watched.polled == poll
            ):
                # a process that was at rest in the last poll has used what it has since then
                elapsed_ns = None
                if view is not None:
                    elapsed_ns = max(watched.time_ns - (watched.before_ns or before_ns), 1)
                threads = self._account.views(watched.key, elapsed_ns)
                watched.view = _view(watched, elapsed_ns, threads)
        return tuple(w.view for w in processes if w.view is not None)

    def forget(self, processes: Collection[Watched]) -> None:
        """Nobody asks for them any more."""
        if self._kept:
            for watched in processes:
                watched.view = None
        self._kept = False


def _view(watched: Watched, elapsed_ns: int | None, threads: tuple[ThreadView, ...]) -> ProcessView:
    ratio = None
    if watched.view is not None and elapsed_ns is not None:
        ratio = max(watched.clock_ns - watched.view.cpu_ns, 0) / elapsed_ns
    return ProcessView(
        key=watched.key,
        ppid=watched.ppid,
        uid=watched.uid,
        group=watched.charged_to,
        comm=watched.comm,
        cmdline=watched.cmdline,
        python=watched.names.python,
        names_from=watched.names.names_from,
        cpu_ns=watched.clock_ns,
        cpu_ratio=ratio,
        threads=threads,
    )
