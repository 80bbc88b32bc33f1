"""``python -m benchmarks [NAME…]``: measure, and print what was found."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import comparison, machine, polling, profile, publisher
from benchmarks.page import write_page
from benchmarks.report import Result, as_text
from benchmarks.running import CHECKOUT, BenchmarkError
from benchmarks.svg import plot

DOCS = CHECKOUT / "docs"
PLOT = "benchmarks-poll.svg"

_EPILOG = """\
benchmarks:
  publisher  what publishing costs the application, on each interpreter
  poll       what a poll and a scrape cost under various loads, in CPU time, memory and descriptors
  peers      the same beside process-exporter, node_exporter, psutil, top and ps
  sweep      how the cost grows with threads and with active threads; only when named or with --full
  profile    where the time of a poll goes, by function; only when named

The quick version takes less than three minutes, --full about an hour. Measure on a machine that has
nothing else to do; how busy it was is in the results.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run benchmarks; the exit code."""
    options = _options(arguments)
    results, plots = [], []
    busy, steal = machine.processor_time()
    began = time.monotonic()
    run: dict[str, Callable[[], Result]] = {
        "publisher": lambda: publisher.run(full=options.full, everywhere=options.all_interpreters),
        "poll": lambda: polling.run(full=options.full),
        "peers": lambda: comparison.run_peers(full=options.full),
        "profile": profile.run,
    }
    started, load = datetime.now(UTC).isoformat(timespec="seconds"), machine.load()
    try:
        for name in options.names:
            if name == "sweep":
                result, panels = comparison.run_sweep(full=options.full)
                plots.append(plot(panels, "CPU time, ms"))
            else:
                result = run[name]()
            results.append(result)
            print(as_text(result), flush=True)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    after = machine.processor_time()
    conditions = {
        "started": started,
        "seconds": round(time.monotonic() - began),
        "load_average_before": load,
        "load_average_after": machine.load(),
        "cpus_busy": round((after[0] - busy) / (time.monotonic() - began), 2),
        "cpus_stolen": round((after[1] - steal) / (time.monotonic() - began), 3),
    }
    print("machine:", *(f"  {key}: {value}" for key, value in machine.facts().items()), sep="\n")
    print(*(f"  {key.replace('_', ' ')}: {value}" for key, value in conditions.items()), sep="\n")
    if options.json:
        found = {
            "machine": machine.facts(),
            "conditions": conditions,
            "full": options.full,
            "benchmarks": {result.name: result.raw for result in results},
        }
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.docs:
        for text in plots:
            (DOCS / PLOT).write_text(text, encoding="utf-8")
        write_page(DOCS / "benchmarks.md", results, conditions)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What threadwatch costs: the applications that publish, and the host that it runs on.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ("publisher", "poll", "peers", "sweep", "profile")
    parser.add_argument(
        "names", nargs="*", choices=[*names, []], metavar="NAME", help="default: see below"
    )
    parser.add_argument("--full", action="store_true", help="good figures rather than quick ones")
    parser.add_argument(
        "--all-interpreters",
        action="store_true",
        help="publisher: every CPython that is found, not only the oldest, the newest and the daemon's own",
    )
    parser.add_argument("--json", metavar="FILE", help="write every single value there")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md and the plot")
    options = parser.parse_args(arguments)
    if not options.names:
        options.names = ["publisher", "poll", "peers", *(["sweep"] if options.full else [])]
    return options


if __name__ == "__main__":
    sys.exit(main())
