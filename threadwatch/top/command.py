"""Runs ``threadwatch top``: reads its options, opens the source of views, and checks the terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from threadwatch import publish
from threadwatch.errors import Unusable
from threadwatch.top.batch import batch
from threadwatch.top.daemon_source import DaemonSource
from threadwatch.top.hangup import end_at_hangup
from threadwatch.top.model import Top
from threadwatch.top.order import SORTS
from threadwatch.top.rows import Shape, parse_filter
from threadwatch.top.source import ProcSource, Source

SORT_NAMES = tuple(sort.name for sort in SORTS)


@dataclass(frozen=True, slots=True)
class TopOptions:
    """The options of the command line."""

    what: Sequence[str]
    interval: float
    batch: bool
    count: int | None
    """Views after which the command ends; None: never."""
    sort: str
    reverse: bool
    flat: bool
    busy: bool
    filter: str
    url: str | None
    """The URL of a daemon; None: this host's procfs."""
    config_file: str | None
    procfs: str


def top(options: TopOptions) -> int:
    """Show the threads, live, and return the exit code.

    :raises ConfigError: the configuration cannot be used.
    :raises Unusable: there is no procfs, nothing fits what was asked for, or no terminal; or the
        daemon cannot be reached.
    """
    if not options.batch:
        _check_terminal()
    shape = Shape(
        sort=SORTS[SORT_NAMES.index(options.sort)],
        reverse=options.reverse,
        flat=options.flat,
        busy=options.busy,
        words=parse_filter(options.filter),
    )
    model = Top(options.what, shape)
    source = _source(options)
    if options.batch:
        return _batch(source, model, options.count)
    return _live(source, model, options)


def _source(options: TopOptions) -> Source:
    if options.url is not None:
        daemon = DaemonSource(options.url, interval=options.interval)
        daemon.check()
        return daemon
    return ProcSource(
        procfs=options.procfs,
        config_file=options.config_file,
        interval=options.interval,
        pids=frozenset(int(word) for word in options.what if word.isdecimal()),
    )


def _check_terminal() -> None:
    # textual draws on stderr.
    for stream, name in (
        (sys.stdin, "input"),
        (sys.stdout, "output"),
        (sys.stderr, "error output"),
    ):
        if not stream.isatty():
            raise Unusable(
                f"top: the {name} is not a terminal: use -b for plain text (over ssh: ssh -t HOST …)"
            )
    if os.environ.get("TERM", "dumb") in {"dumb", "unknown", ""}:
        raise Unusable(
            "top: this terminal cannot move its cursor (TERM=dumb): use -b for plain text"
        )


def _batch(source: Source, model: Top, count: int | None) -> int:
    """Print each view except the first one, which has no shares of time yet."""
    columns = int(width) if (width := os.environ.get("COLUMNS", "")).isdecimal() else None
    printed = 0
    try:
        while count is None or printed < count:
            view = source.next(time.sleep)
            if view is None:
                continue
            first = model.view is None
            model.take(view)
            if first:
                continue
            if printed:
                print()
            for line in batch(model, where=source.where, columns=columns):
                print(line)
            sys.stdout.flush()
            printed += 1
    finally:
        source.close()
    if notes := source.notes():
        print(f"threadwatch: {notes}", file=sys.stderr)
    return 0


def _live(source: Source, model: Top, options: TopOptions) -> int:
    try:
        from threadwatch.top.app import TopApp  # noqa: PLC0415  # the only part that needs textual
    except ModuleNotFoundError as error:
        source.close()
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise Unusable(
            "top: the terminal view needs the package textual: "
            "pip install '.[top]' in a checkout of threadwatch (or use -b for plain text)"
        ) from None
    publish()  # top has threads, too
    end_at_hangup()
    app = TopApp(source, model, interval=options.interval, colors=not os.environ.get("NO_COLOR"))
    try:
        why = app.run()
    finally:
        app.close()
    if why is not None:
        raise Unusable(why)
    return app.return_code or 0
