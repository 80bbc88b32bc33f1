"""``python -m benchmarks [NAME…]``: measure, and print what was found."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import (
    agreement,
    comparison,
    encoding,
    fleet,
    harm,
    installed,
    loops,
    machine,
    memory,
    page,
    polling,
    profile,
    publisher,
    terminal,
    waits,
)
from benchmarks.report import Result, as_markdown, as_text
from benchmarks.running import CHECKOUT, BenchmarkError

DOCS = CHECKOUT / "docs"
PLOT = "benchmarks-poll.svg"
NAMES = (
    "publisher",
    "installed",
    "poll",
    "encoding",
    "memory",
    "waits",
    "loops",
    "harm",
    "agreement",
    "peers",
    "sweep",
    "terminal",
    "fleet",
    "profile",
)
_USUAL = ("publisher", "installed", "poll", "encoding", "memory", "waits", "loops", "peers")
_USUAL_IN_FULL = (
    "publisher",
    "installed",
    "poll",
    "encoding",
    "memory",
    "waits",
    "loops",
    "harm",
    "agreement",
    "peers",
    "sweep",
    "terminal",
)

_EPILOG = """\
benchmarks:
  publisher  what publishing costs the application, on each interpreter
  installed  what a daemon costs with the default configuration, beside process-exporter
  poll       what a poll and a scrape cost under various loads, in CPU time, memory and descriptors
  encoding   what a scrape's text costs to write, beside prometheus_client
  memory     what it costs to read names from the memory of processes that do not publish
  waits      what it costs to sample what threads wait for
  loops      what it costs to look at loops and their tasks, and what being looked at costs a server
  harm       what threadwatch, py-spy and CPython's profiler do to a program's throughput; only when
             named or with --full
  agreement  whether they agree on which thread holds the GIL; only when named or with --full
  peers      the cost of polls beside process-exporter, node_exporter, psutil, top and ps
  sweep      how the cost grows with threads and with active threads; only when named or with --full
  terminal   what `top` costs beside htop; only when named or with --full
  fleet      what 50 daemons and more cost a Prometheus, and the Fleet dashboard's queries; only when named;
             with --full half an hour; needs root, and 6 GB of memory
  profile    where the time of a poll goes, by function; only when named

The quick version takes about 25 minutes, --full about three hours; what polling costs, beside its peers
and as it grows, is ten minutes of its own: `poll peers sweep --docs`. Measure on a machine that has
nothing else to do; how busy it was is in the results.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks; the exit code."""
    options = _options(arguments)
    run: dict[str, Callable[[], Result]] = {
        "publisher": lambda: publisher.run(full=options.full, everywhere=options.all_interpreters),
        "installed": lambda: installed.run(full=options.full),
        "poll": lambda: polling.run(full=options.full),
        "encoding": lambda: encoding.run(full=options.full),
        "memory": lambda: memory.run(full=options.full),
        "waits": lambda: waits.run(full=options.full),
        "loops": lambda: loops.run(full=options.full),
        "harm": lambda: harm.run(full=options.full),
        "agreement": lambda: agreement.run(full=options.full),
        "peers": lambda: comparison.run_peers(full=options.full),
        "sweep": lambda: comparison.run_sweep(full=options.full),
        "terminal": lambda: terminal.run(full=options.full),
        "fleet": lambda: fleet.run(full=options.full),
        "profile": profile.run,
    }
    print("\n".join(f"{key}: {value}" for key, value in machine.facts().items()), end="\n\n")
    found: dict[str, object] = {}
    for name in options.names:
        conditions = machine.Conditions()
        try:
            result = run[name]()
        except BenchmarkError as error:
            print(f"benchmarks: {name}: {error}", file=sys.stderr)
            return 1
        measured = conditions.now()
        sentence = machine.as_sentence(measured, full=options.full)
        print(as_text(result), sentence, sep="\n", end="\n\n", flush=True)
        # written after each, so that a run that is stopped keeps what it has
        if options.json:
            found[name] = {"conditions": measured, "full": options.full, "values": result.raw}
            everything = {"machine": machine.facts(), "benchmarks": found}
            Path(options.json).write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
        if options.docs:
            if result.plot:
                (DOCS / PLOT).write_text(result.plot, encoding="utf-8")
            page.update(DOCS / "benchmarks.md", name, as_markdown(result, sentence, PLOT), NAMES)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What threadwatch costs: the applications that publish, and the host that it runs on.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="by default publisher, installed, poll, encoding, memory, waits, loops and peers; with --full "
        "all but fleet and profile",
    )
    parser.add_argument("--full", action="store_true", help="good figures rather than quick ones")
    parser.add_argument(
        "--all-interpreters",
        action="store_true",
        help="publisher: every CPython that is found, not only the oldest, the newest and the daemon's own",
    )
    parser.add_argument("--json", metavar="FILE", help="write every single value there")
    parser.add_argument(
        "--docs", action="store_true", help="write what was found into docs/benchmarks.md"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(NAMES):
        parser.error(
            f"no benchmark is called {' or '.join(sorted(unknown))}; there are: {', '.join(NAMES)}"
        )
    if not options.names:
        options.names = list(_USUAL_IN_FULL if options.full else _USUAL)
    return options


if __name__ == "__main__":
    sys.exit(main())
