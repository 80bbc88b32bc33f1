"""Dispatches the commands: arguments in, exit code out. Each command has a module of its own.

Runs on Python 3.9 and later, because ``run`` has to; the other commands say which Python they need.
Exit codes: 0 success, 1 a failure, 2 wrong usage, 78 bad configuration; of ``run`` 126 and 127 as of a shell.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from threadwatch.commands import output
from threadwatch.commands.arguments import DEFAULT_ADDRESS, parser
from threadwatch.errors import ConfigError, ThreadwatchError, Unusable

EXIT_FAILURE = 1
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits(3)."""
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
"""Of ``run``, as of a shell and of env(1): the command cannot be started, or is not there."""

_DAEMON_PYTHON = (3, 11)


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run one command and return its exit code."""
    output.guard()
    try:
        try:
            return _run_command(arguments)
        finally:
            sys.stdout.flush()  # usage texts too, which end by SystemExit
    except output.OutputError as error:
        return output.give_up(error)


def _run_command(arguments: "Sequence[str] | None") -> int:
    commands = parser()
    options = commands.parse_args(arguments)
    if options.command is None:
        commands.print_help(sys.stderr)
        return 2
    try:
        if options.command != "run":
            _check_python(options.command)
        return _COMMANDS[options.command](options)
    except output.OutputError:
        raise
    except ConfigError as error:
        return _fail(error, EXIT_CONFIG)
    except ThreadwatchError as error:
        return _fail(error, EXIT_FAILURE)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in (
            "bcrypt",
            "h11",
            "prometheus_client",
            "yaml",
        ):
            raise
        remedy = "pip install '.[daemon]' in a checkout of threadwatch"
        return _fail(f"{options.command} needs the package {error.name}: {remedy}", EXIT_FAILURE)
    except KeyboardInterrupt:
        return 130


def _fail(error: object, code: int) -> int:
    print(f"threadwatch: {error}", file=sys.stderr)
    return code


def _check_python(command: str) -> None:
    if sys.version_info < _DAEMON_PYTHON:
        wanted = ".".join(map(str, _DAEMON_PYTHON))
        found = ".".join(map(str, sys.version_info[:3]))
        message = (
            f"{command} needs Python {wanted} or later, and this is {found} ({sys.executable}); "
            "publishing and `run` work here"
        )
        raise ThreadwatchError(message)


def _serve(options: argparse.Namespace) -> int:
    from threadwatch.commands.serve import ServeOptions, serve  # noqa: PLC0415 - needs 3.11, see _check_python

    if options.auto_reload and options.config is None:
        raise ThreadwatchError(
            "--config.auto-reload: there is no file to look at: add --config.file"
        )
    return serve(
        ServeOptions(
            config_file=options.config,
            auto_reload=options.auto_reload,
            listen=tuple(options.listen or ()),
            default_listen=os.environ.get("THREADWATCH_LISTEN_ADDRESS") or DEFAULT_ADDRESS,
            telemetry_path=options.telemetry_path,
            allowed_hosts=tuple(options.allowed_hosts),
            stacks=options.stacks,
            web_config_file=options.web_config,
            procfs=options.procfs,
            log_level=options.log_level,
            log_format=options.log_format,
        )
    )


def _ps(options: argparse.Namespace) -> int:
    from threadwatch.commands.ps import ps  # noqa: PLC0415 - as in _serve

    return ps(
        options.what,
        as_json=options.json,
        interval=options.interval,
        config_file=options.config,
        procfs=options.procfs,
    )


def _stack(options: argparse.Namespace) -> int:
    from threadwatch.commands.stack import stack  # noqa: PLC0415 - as in _serve

    return stack(options.pid, options.which, as_json=options.json, nonblocking=options.nonblocking)


def _top(options: argparse.Namespace) -> int:
    if options.url is not None and (options.config is not None or options.procfs != "/proc"):
        print(
            "threadwatch: top: with --url the daemon's configuration and procfs are used: leave out "
            "--config.file and --path.procfs",
            file=sys.stderr,
        )
        return 2
    from threadwatch.top.command import TopOptions, top  # noqa: PLC0415 - as in _serve

    return top(
        TopOptions(
            what=options.what,
            interval=options.interval,
            batch=options.batch or options.once,
            count=1 if options.once else options.count,
            sort=options.sort,
            reverse=options.reverse,
            flat=options.flat,
            busy=options.busy,
            filter=options.filter,
            url=options.url,
            config_file=options.config,
            procfs=options.procfs,
        )
    )


def _doctor(options: argparse.Namespace) -> int:
    from threadwatch.doctor.command import doctor  # noqa: PLC0415 - as in _serve

    return doctor(
        options.what,
        as_json=options.json,
        config_file=options.config,
        procfs=options.procfs,
    )


def _attach(options: argparse.Namespace) -> int:
    from threadwatch.commands.attach import attach  # noqa: PLC0415 - as in _serve

    return attach(options.pid, yes=options.yes, timeout=options.timeout)


def _detach(options: argparse.Namespace) -> int:
    from threadwatch.commands.attach import detach  # noqa: PLC0415 - as in _serve

    return detach(options.pid, timeout=options.timeout)


def _run(options: argparse.Namespace) -> int:
    from threadwatch.commands.run import run  # noqa: PLC0415 - as small as can be until it is needed

    command = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not command:
        print("threadwatch: run: say what to run: threadwatch run -- COMMAND", file=sys.stderr)
        return 2
    try:
        run(command)
    except Unusable as error:
        not_found = isinstance(error.__cause__, FileNotFoundError)
        return _fail(error, EXIT_NOT_FOUND if not_found else EXIT_NOT_EXECUTABLE)
    return 0


def _check_config(options: argparse.Namespace) -> int:
    from threadwatch.config.parse import load_config  # noqa: PLC0415 - as in _serve
    from threadwatch.config.settings import describe_config  # noqa: PLC0415 - as in _serve

    code = 0
    for path in options.files:
        try:
            print(describe_config(load_config(path)))
        except ConfigError as error:
            code = _fail(error, EXIT_CONFIG)
    return code


def _check_web_config(options: argparse.Namespace) -> int:
    from threadwatch.web.auth.access import load_rules  # noqa: PLC0415 - as in _serve

    code = 0
    for path in options.files:
        try:
            rules = load_rules(path)
        except ConfigError as error:
            code = _fail(error, EXIT_CONFIG)
        else:
            print(f"{path}: ok, {rules}")
            for warning in rules.warnings:
                print(f"{path}: {warning}", file=sys.stderr)
    return code


def _files(options: argparse.Namespace) -> int:
    from threadwatch.commands.files import files  # noqa: PLC0415 - as in _serve
    from threadwatch.commands.inject import inject  # noqa: PLC0415 - as in _serve

    return files(options.name) if options.inject is None else inject(options.inject)


def _demo(options: argparse.Namespace) -> int:
    from threadwatch.commands.demo import demo  # noqa: PLC0415 - as in _serve

    return demo(options.listen, DEFAULT_ADDRESS, options.seconds)


_COMMANDS: "dict[str, Callable[[argparse.Namespace], int]]" = {
    "serve": _serve,
    "ps": _ps,
    "top": _top,
    "run": _run,
    "attach": _attach,
    "detach": _detach,
    "doctor": _doctor,
    "check-config": _check_config,
    "check-web-config": _check_web_config,
    "stack": _stack,
    "files": _files,
    "demo": _demo,
}
