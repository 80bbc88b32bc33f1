"""``threadwatch serve`` polls on a timer, answers scrapes and obeys signals.

The main thread polls and waits for signals; the web server has a thread of its own and shows the
last View. Signals are blocked in all threads. The main thread takes them while it waits for the
next poll, so that none interrupts a poll. Polls start at multiples of the interval. A poll that
takes longer than the interval skips the polls that it overran: they are counted, and not made up
for.

A service manager is told of each complete poll and, while it waits for a poll, of each step. So a
main thread that hangs, in a poll or between two, gets the daemon killed and started again. The log
then has the stack of Python at that moment (faulthandler). Where no service manager watches,
``/-/healthy`` and ``/-/ready`` fail then, and SIGTERM still ends the daemon.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import time
from dataclasses import dataclass

from threadwatch import __version__, publish
from threadwatch.closeup.examiner import Examiner
from threadwatch.closeup.python_stacks import python_stacks
from threadwatch.commands import log
from threadwatch.commands.last_resort import end_if_main_thread_hangs
from threadwatch.commands.service_manager import ServiceManager, take_sockets
from threadwatch.config.changes import Changes
from threadwatch.config.parse import load_config
from threadwatch.config.settings import Config, describe_config
from threadwatch.errors import ConfigError, ReadError, Unusable
from threadwatch.handover.inbox import Inbox
from threadwatch.handover.listen import Handover, default_path
from threadwatch.metrics.exporter import Exporter
from threadwatch.poll.poller import Poller
from threadwatch.procfs import ProcFS
from threadwatch.procfs.own import raise_file_limit
from threadwatch.web.app import App
from threadwatch.web.audience import Audience
from threadwatch.web.auth.access import Access
from threadwatch.web.closeup import CloseUp
from threadwatch.web.health import Health
from threadwatch.web.hosts import Hosts
from threadwatch.web.listen import page_url, parse_listen
from threadwatch.web.server import WebServer

logger = logging.getLogger(__name__)

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS = _ENDING | {signal.SIGHUP}


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of the command line."""

    config_file: str | None
    auto_reload: bool
    """Whether a change of :attr:`config_file` is looked for, and taken like SIGHUP."""
    listen: tuple[str, ...]
    default_listen: str
    """Where to listen if :attr:`listen` is empty and no listening socket is inherited."""
    telemetry_path: str
    allowed_hosts: tuple[str, ...]
    stacks: bool
    """Whether clients may ask for the Python stacks of threads, which py-spy reads."""
    web_config_file: str | None
    procfs: str
    log_level: str
    log_format: str


class _Source:
    """The configuration's file, and whether it is to be read again."""

    def __init__(self, path: str | None, *, auto_reload: bool) -> None:
        self._path = path
        self._changes = Changes(path) if auto_reload and path is not None else None

    def load(self) -> Config:
        """Read the file. Raises ConfigError."""
        if self._changes is not None:
            self._changes.reading()
        return load_config(self._path)

    def has_changed(self) -> bool:
        """Return whether the file has changed and stands still; False without auto-reload."""
        return self._changes is not None and self._changes.settled()


class ErrorLog:
    """Logs each kind of read error once as a warning, and from then on at debug level only."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def __call__(self, error: ReadError) -> None:
        """Log one error."""
        kind = error.source, error.reason
        level = logging.DEBUG if kind in self._seen else logging.WARNING
        self._seen.add(kind)
        logger.log(level, "some data could not be read", extra={"fields": _fields(error)})


def _fields(error: ReadError) -> dict[str, str]:
    fields = {"source": error.source, "reason": error.reason}
    if error.pid is not None:
        fields["pid"] = str(error.pid)
    if error.detail:
        fields["detail"] = error.detail
    return fields


def serve(options: ServeOptions) -> int:
    """Run the daemon until SIGTERM or SIGINT, and return the exit code.

    :raises ConfigError: the configuration cannot be used.
    :raises Unusable: something that the daemon needs is not there, such as procfs or the port.
    """
    log.set_up(level=options.log_level, form=options.log_format)
    faulthandler.enable()
    manager = ServiceManager(os.environ)
    inherited = take_sockets(os.environ)
    source = _Source(options.config_file, auto_reload=options.auto_reload)
    config = source.load()
    access = Access(options.web_config_file)
    procfs = ProcFS(options.procfs)
    raise_file_limit()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    # Never called. The kernel shows a signal that a thread waits for as not blocked, and systemd
    # (262 and later) does not start a Type=notify-reload service that SIGHUP seems to kill.
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    health = Health()
    end_if_main_thread_hangs(_ENDING, health.complaint)
    publish()
    exporter = Exporter()
    audience = Audience()
    host = socket.gethostname()
    examiner = Examiner(procfs)
    closeup = CloseUp(exporter, examiner.examine, python_stacks if options.stacks else None)
    listen = options.listen or (() if inherited else (options.default_listen,))
    try:
        addresses = [parse_listen(text) for text in listen]
        app = App(
            exporter, health, options.telemetry_path, audience=audience, closeup=closeup, host=host
        )
    except ValueError as error:
        raise Unusable(str(error)) from None
    hosts = Hosts(host, options.allowed_hosts)
    server = WebServer(addresses, app, sockets=inherited, access=access, hosts=hosts)
    server.start()
    inbox = Inbox()
    handover = _handover(config, inbox)
    poller = Poller(procfs, config, report=ErrorLog(), inbox=inbox)
    for address in server.addresses:
        page = page_url(address, socket.gethostname(), tls=access.rules.tls is not None)
        _info(
            "listening",
            address=address,
            **({"page": page} if page else {}),
            version=__version__,
            web=access.rules,
        )
    try:
        _run(poller, exporter, audience, server, config, source, manager, health)
    finally:
        manager.stopping()
        server.stop()
        if handover is not None:
            handover.stop()
        poller.close()
        examiner.close()
        manager.close()
    _info("stopped")
    return 0


def _handover(config: Config, inbox: Inbox) -> Handover | None:
    """Begin to receive tables as the configuration says.

    :raises Unusable: it names a socket that cannot be made. Without the default one the daemon does.
    """
    if config.publish_socket is None:
        return None
    path = config.publish_socket or default_path(os.environ)
    try:
        handover = Handover(path, inbox)
    except Unusable as error:
        if config.publish_socket:
            raise
        logger.log(
            logging.INFO if os.path.isdir(os.path.dirname(path)) else logging.DEBUG,
            "no tables are handed over",
            extra={"fields": {"error": error}},
        )
        return None
    _info("receiving tables", socket=path)
    return handover


def _run(
    poller: Poller,
    exporter: Exporter,
    audience: Audience,
    server: WebServer,
    config: Config,
    source: _Source,
    manager: ServiceManager,
    health: Health,
) -> None:
    due_ns = time.monotonic_ns()
    health.expect_polls(manager.expect_polls(config.poll_interval_ns))

    def getting_on() -> None:
        manager.getting_on()
        health.getting_on()

    while True:
        view = poller.poll(
            details=config.thread_info or audience.present(config.poll_interval_ns),
            getting_on=None if health.ready and not manager.waits else getting_on,
        )
        exporter.publish(view)
        health.polled()
        if server.failed:
            raise Unusable("the web server has failed")
        manager.polled(view)
        if source.has_changed():
            config = _reload(poller, config, source, manager)
            health.expect_polls(manager.expect_polls(config.poll_interval_ns))
            due_ns = time.monotonic_ns()  # as after SIGHUP
            continue
        now_ns = time.monotonic_ns()
        missed = max(now_ns - due_ns, 0) // config.poll_interval_ns
        poller.skip(missed)
        due_ns += (missed + 1) * config.poll_interval_ns
        while (now_ns := time.monotonic_ns()) < due_ns:
            sample_ns = poller.next_sample_ns(due_ns)
            until_ns = due_ns if sample_ns is None else min(sample_ns, due_ns)
            caught = signal.sigtimedwait(_SIGNALS, max(until_ns - now_ns, 0) / 1e9)
            # After SIGSTOP and SIGCONT sigtimedwait() returns a meaningless number: ignore it
            if caught is None or caught.si_signo not in _SIGNALS:
                if until_ns < due_ns:
                    poller.sample()
                continue
            if caught.si_signo != signal.SIGHUP:
                _info("stopping", signal=signal.Signals(caught.si_signo).name)
                return
            config = _reload(poller, config, source, manager)
            health.expect_polls(manager.expect_polls(config.poll_interval_ns))
            server.reload()
            due_ns = time.monotonic_ns()  # a reload ends with the first poll that uses it


def _reload(poller: Poller, config: Config, source: _Source, manager: ServiceManager) -> Config:
    manager.reloading()
    try:
        config = source.load()
    except ConfigError as error:
        poller.reload(None)
        manager.reloaded(error)
        logger.error(  # noqa: TRY400 - the message is complete; a traceback would add nothing
            "the new configuration is bad, so the one before stays in use",
            extra={"fields": {"error": error}},
        )
    else:
        poller.reload(config)
        manager.reloaded()
        _info("configuration read again", config=describe_config(config))
    return config


def _info(message: str, **fields: object) -> None:
    logger.info(message, extra={"fields": fields})
