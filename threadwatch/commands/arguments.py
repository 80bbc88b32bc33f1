"""Parses the command line and holds its help. :mod:`threadwatch.commands.main` has the commands.

Runs on Python 3.9 and later, as that module does.
"""

import argparse

from threadwatch import __version__
from threadwatch.commands import values

DEFAULT_ADDRESS = "127.0.0.1:9749"
"""Where to answer if the command line names no address."""
_SORT_NAMES = ("cpu", "held", "wait", "ready", "time", "age", "state", "tid")

_EXAMPLES = """\
examples:
  threadwatch run -- gunicorn shop:app   start an application whose threads have names from outside
  threadwatch attach 4711                have a running process publish (CPython 3.14 and later)
  threadwatch ps                         every Python thread of this host, by name
  threadwatch top                        the same, live, in the terminal
  threadwatch serve                      export them to Prometheus, on http://127.0.0.1:9749/metrics
  threadwatch doctor                     what cannot be seen, and how to grant it
  threadwatch demo                       see all of it on an application made for the purpose
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="threadwatch",
        description="Which Python thread, by name, uses the CPU, and what it waits for.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"threadwatch {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_serve(commands)
    _add_ps(commands)
    _add_top(commands)
    _add_stack(commands)
    _add_run(commands)
    _add_attach(commands)
    _add_detach(commands)
    _add_doctor(commands)
    _add_check_config(commands)
    _add_check_web_config(commands)
    _add_files(commands)
    _add_demo(commands)
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    examples: str,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="*", metavar="PID|NAME", help="a process, or an application; all by default"
    )


def _add_procfs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--path.procfs",
        dest="procfs",
        default="/proc",
        metavar="DIR",
        help="where procfs is mounted (default: %(default)s)",
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config.file",
        dest="config",
        metavar="FILE",
        help="configuration in YAML; without it every Python process is watched",
    )


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "serve",
        "watch, and export to Prometheus, until told to stop",
        "  threadwatch serve\n"
        "  threadwatch serve --config.file=/etc/threadwatch.yml --web.listen-address=:9749\n"
        "  threadwatch serve --web.config.file=/etc/threadwatch/web.yml    TLS, passwords\n"
        "  threadwatch serve --web.listen-address=:9749 --web.listen-address=unix:/run/web.sock\n"
        "  kill -HUP $(pidof -x threadwatch)    read the configuration again\n",
    )
    _add_config(parser)
    parser.add_argument(
        "--config.auto-reload",
        dest="auto_reload",
        action="store_true",
        help="read the configuration again when its file changes, as on SIGHUP",
    )
    parser.add_argument(
        "--web.listen-address",
        dest="listen",
        action="append",
        metavar="ADDRESS",
        help="where to answer: HOST:PORT, [IPV6]:PORT, :PORT for all interfaces, or unix:PATH[,mode=660];"
        " may be given several times (default: what systemd hands over, or else the environment's"
        f" THREADWATCH_LISTEN_ADDRESS, or else {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--web.allow-host",
        dest="allowed_hosts",
        action="append",
        default=[],
        type=values.host_name,
        metavar="NAME",
        help="a name by which a browser or a proxy may ask on a loopback address, besides localhost and this"
        " machine's own; may be given several times",
    )
    parser.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        default="/metrics",
        metavar="PATH",
        help="the path of the metrics (default: %(default)s)",
    )
    parser.add_argument(
        "--web.enable-stacks",
        dest="stacks",
        action="store_true",
        help="let every client that may read the page ask for the Python stack of a thread; py-spy reads it,"
        " and stops the thread's process for some milliseconds",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web_config",
        metavar="FILE",
        help="TLS, users with passwords, response headers, in the format of Prometheus' exporters;"
        " read again when it or a certificate changes",
    )
    _add_procfs(parser)
    parser.add_argument(
        "--log.level",
        dest="log_level",
        default="info",
        choices=("debug", "info", "warn", "error"),
        help="the least important kind of message to log (default: %(default)s)",
    )
    parser.add_argument(
        "--log.format",
        dest="log_format",
        default="logfmt",
        choices=("logfmt", "json"),
        help="how to write log lines (default: %(default)s)",
    )


def _add_ps(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "ps",
        "show every thread once: kernel TID, Python name, state, CPU",
        "  threadwatch ps                 all Python processes\n"
        "  threadwatch ps 4711            one process, and those that it started\n"
        "  threadwatch ps shop 'celery*'  applications by name\n"
        "  threadwatch ps --json | jq '.[].threads[] | select(.cpu_percent > 50)'\n",
    )
    _add_what(parser)
    parser.add_argument("--json", action="store_true", help="an array of processes, for programs")
    parser.add_argument(
        "--interval",
        type=float,
        default=0.5,
        metavar="SECONDS",
        help="how long to measure CPU %% for; 0 leaves it out (default: %(default)s)",
    )
    _add_config(parser)
    _add_procfs(parser)


def _add_top(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "top",
        "show every thread live, in the terminal",
        "  threadwatch top                    all Python processes; F1 or ? explains the keys\n"
        "  threadwatch top shop               one application\n"
        "  threadwatch top 4711 -d 0.5        one process and those that it started, twice a second\n"
        "  threadwatch top --flat --sort wait the longest wait for the GIL first\n"
        "  threadwatch top -b -n 3 > log      three views as plain text\n"
        "  threadwatch top --url http://db1:9749   another host, where a daemon runs\n",
    )
    _add_what(parser)
    parser.add_argument(
        "-d",
        "--interval",
        type=values.interval,
        default=1.0,
        metavar="SECONDS",
        help="how often to look (default: %(default)s)",
    )
    parser.add_argument(
        "--sort",
        default="cpu",
        choices=_SORT_NAMES,
        help="what to order by (default: %(default)s)",
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument(
        "--filter", default="", metavar="TEXT", help="only threads that fit; a|b: either"
    )
    parser.add_argument("--flat", action="store_true", help="a list of threads, not a tree")
    parser.add_argument("--busy", action="store_true", help="without idle threads")
    parser.add_argument(
        "-b", "--batch", action="store_true", help="plain text, for pipes and files"
    )
    parser.add_argument(
        "-n",
        "--count",
        type=values.count,
        metavar="COUNT",
        help="end after this many views (with -b)",
    )
    parser.add_argument("--once", action="store_true", help="the same as -b -n 1")
    parser.add_argument(
        "--url",
        metavar="URL",
        help="show what a daemon sees, instead of this host's procfs: http://HOST:9749; a user and a "
        "password are best given in the environment, THREADWATCH_BASIC_AUTH=USER:PASSWORD",
    )
    _add_config(parser)
    _add_procfs(parser)


def _add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "run",
        "start a command whose Python processes publish their threads",
        "  threadwatch run -- gunicorn shop:app\n  threadwatch run -- python -m celery -A shop worker\n",
    )
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND [ARGUMENT ...]")


def _add_stack(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "stack",
        "print which Python code the threads of a process run, once, by py-spy",
        "  threadwatch stack 4711\n"
        "  threadwatch stack 4711 4713 'http-*'    by TID and by name\n"
        "\npy-spy stops the process for some milliseconds. Be its user, or root.\n",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--nonblocking",
        action="store_true",
        help="do not stop the process; stacks of threads that run can then be wrong",
    )
    parser.add_argument("pid", type=values.pid, metavar="PID", help="the process")
    parser.add_argument(
        "which",
        nargs="*",
        metavar="TID|NAME",
        help="a thread of it, * for anything; all by default",
    )


def _add_attach(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "attach",
        "have a running process publish its threads, on CPython 3.14 or later",
        "  threadwatch attach 4711\n"
        "  threadwatch attach --yes --timeout 60 4711    without a question, and wait longer\n"
        "\nThe process is changed: it runs a script of threadwatch. Be its user, or root.\n",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before it is changed")
    _add_pid(parser)


def _add_detach(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "detach",
        "have a running process cease to publish its threads, on CPython 3.14 or later",
        "  threadwatch detach 4711\n",
    )
    _add_pid(parser)


def _add_pid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=values.timeout,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for one of its threads to run Python (default: %(default)s)",
    )
    parser.add_argument("pid", type=values.pid, metavar="PID", help="the process")


def _add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "doctor",
        "say what can be seen, what publishes, what permission hides, and how to grant it",
        "  threadwatch doctor             all Python processes\n"
        "  threadwatch doctor 4711 shop   a process, an application, and those that they started\n"
        "  threadwatch doctor --json | jq '.missing[].text'\n"
        "\nThe exit code is 0 if all is as it should be, and 1 if something is missing.\n",
    )
    _add_what(parser)
    parser.add_argument("--json", action="store_true", help="one object, for programs")
    _add_config(parser)
    _add_procfs(parser)


def _add_check_config(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "check-config",
        "say whether a configuration can be used",
        "  threadwatch check-config /etc/threadwatch.yml\n",
    )
    parser.add_argument("files", nargs="+", metavar="FILE")


def _add_check_web_config(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    parser = _add(
        commands,
        "check-web-config",
        "say whether a web configuration can be used, with its certificates and keys",
        "  threadwatch check-web-config /etc/threadwatch/web.yml\n",
    )
    parser.add_argument("files", nargs="+", metavar="FILE")


def _add_files(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "files",
        "list and print the files that come along: unit, rules, dashboards, configuration, runbooks",
        "  threadwatch files\n"
        "  threadwatch files grafana/dashboards\n"
        "  threadwatch files systemd/threadwatch.service > /etc/systemd/system/threadwatch.service\n"
        "  threadwatch files --inject /srv/publisher\n",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "name", nargs="?", metavar="NAME", help="a file, which is printed, or a directory"
    )
    which.add_argument(
        "--inject",
        metavar="DIR",
        help="copy what has Python publish to DIR/threadwatch, for containers and environments that have"
        " no threadwatch, and print the PYTHONPATH that they need",
    )


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "demo",
        "start an application with every kind of thread, and watch it",
        "  threadwatch demo\n  threadwatch demo --seconds 10\n",
    )
    parser.add_argument(
        "--web.listen-address",
        dest="listen",
        metavar="HOST:PORT",
        help=f"where to answer (default: {DEFAULT_ADDRESS}, or any free port)",
    )
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="end after this time; without it, Ctrl-C ends it"
    )
