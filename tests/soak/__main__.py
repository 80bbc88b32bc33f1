"""``./dev soak [MINUTES]``: a daemon and a Prometheus under hardship; what grew, fell, or was lost.

Prints a report, and exits with 1 if anything was violated. Everything runs in a PID namespace of its own,
where this program, the daemon, Prometheus and the targets are all that there is to see.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests import testbed
from tests.prometheus import Prometheus
from tests.serving import Serving, serving
from tests.soak import checks, hardship
from tests.soak.checks import Trend
from tests.soak.witness import Witness
from threadwatch.model.keys import UNATTRIBUTED

WITNESSES = ((3, 9), (3, 14))
LOOK_EVERY_S = 1.0
LEAST_FOR_TRENDS = 5
"""Minutes; in less, a daemon has only just learned what there is to know."""
EXAMINATIONS = 6
"""So often the witness is asked."""
COUNTERS = '{job="threadwatch",__name__=~"threadwatch_.*_(total|count|bucket|sum)|process_cpu_seconds_total"}'


@dataclass(slots=True)
class Notes:
    """What was measured from minute to minute."""

    rss_kib: list[tuple[float, float]] = field(default_factory=list)
    fds: list[tuple[float, float]] = field(default_factory=list)
    series: list[tuple[float, float]] = field(default_factory=list)
    errors: dict[tuple[str, str], float] = field(default_factory=dict)
    polls: float = 0
    skipped: float = 0
    looks: int = 0
    checked_groups: int = 0
    worst_open_s: float = 0
    nobody: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By group, at last: CPU time that no thread's name could be given to, and all of it; in seconds."""
    scrape_s: list[float] = field(default_factory=list)
    witness: list[tuple[float, str, float, float]] = field(default_factory=list)
    """Minute, thread, what its clock said, by how much the daemon was off; in seconds."""
    violations: list[str] = field(default_factory=list)


def main() -> int:
    """Run the soak, and report."""
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    testbed.enter()
    random.seed(arguments.seed)
    print(f"soak of {arguments.minutes:g} minutes, seed {arguments.seed}", flush=True)
    print(testbed.matrix(), flush=True)
    notes, counts = soak(arguments.minutes)
    print(report(notes, counts))
    for text in notes.violations:
        print("VIOLATED", text)
    return 1 if notes.violations else 0


def soak(minutes: float) -> tuple[Notes, dict[str, int]]:
    """Run everything at once for this many minutes."""
    notes, trouble = Notes(), hardship.Hardship()
    mark = f"soak-{os.getpid()}"
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = directory / "threadwatch.yml"
        config.write_text(json.dumps(hardship.GOOD[0]))
        daemon = stack.enter_context(serving(directory, f"--config.file={config}"))
        server = stack.enter_context(Prometheus(directory, config=_scrape_config(daemon)))
        witness = Witness(mark, WITNESSES)
        stack.callback(witness.close)
        stack.callback(trouble.end)
        for role in hardship.ROLES:
            trouble.begin(hardship.churning(trouble, mark, role))
        every = min(30.0, minutes * 60 / 6)
        trouble.begin(hardship.reloading(trouble, daemon.process, config, every))
        for _ in range(3):
            trouble.begin(hardship.scraping(trouble, daemon.url, notes.scrape_s))
        for _ in range(6):
            trouble.begin(hardship.dawdling(trouble, daemon.url))
        begin, examined = time.monotonic(), 0
        while (elapsed := time.monotonic() - begin) < minutes * 60:
            look(daemon, notes, elapsed / 60)
            if daemon.process.poll() is not None:
                notes.violations.append(f"the daemon has ended: {daemon.text()[-2000:]}")
                return notes, trouble.counts
            if elapsed * EXAMINATIONS / 60 / minutes > examined + 1:
                examined += 1
                examine(witness, daemon, notes, elapsed / 60)
            time.sleep(max(0.0, begin + elapsed + LOOK_EVERY_S - time.monotonic()))
        trouble.end()
        notes.violations += trouble.wrong
        examine(witness, daemon, notes, minutes)
        _conclude(daemon, server, notes, minutes)
    return notes, trouble.counts


def _look_at_process(pid: int, notes: Notes, minute: float) -> None:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    if found:
        notes.rss_kib.append((minute, float(found[1])))
    notes.fds.append((minute, float(len(os.listdir(f"/proc/{pid}/fd")))))


def look(daemon: Serving, notes: Notes, minute: float) -> None:
    """Check one scrape, and look at the daemon itself once."""
    _look_at_process(daemon.process.pid, notes, minute)
    families = list(text_string_to_metric_families(daemon.get("/metrics")[1]))
    samples = [sample for family in families for sample in family.samples]
    notes.series.append((minute, float(len(samples))))
    for sample in samples:
        match sample.name:
            case "threadwatch_read_errors_total":
                key = sample.labels["source"], sample.labels["reason"]
                notes.errors[key] = sample.value
            case "threadwatch_polls_total":
                notes.polls = sample.value
            case "threadwatch_polls_skipped_total":
                notes.skipped = sample.value
            case _:
                pass
    measured = checks.groups(samples)
    notes.nobody = {group.name: (group.nobody_s, group.cpu_s) for group in measured}
    notes.looks += 1
    notes.checked_groups += len(measured)
    notes.worst_open_s = max([notes.worst_open_s, *(g.cpu_s - g.threads_s for g in measured)])
    notes.violations += [
        f"minute {minute:.1f}: conservation: {text}" for text in checks.conservation(measured)
    ]


def examine(witness: Witness, daemon: Serving, notes: Notes, minute: float) -> None:
    """Note by how much the daemon is off."""
    for found in witness.compare(daemon):
        notes.witness.append((minute, found.name, found.clock_s, found.off_s))
        if found.wrong:
            notes.violations.append(f"minute {minute:.1f}: the witness: {found}")


def _scrape_config(daemon: Serving) -> str:
    address = daemon.url.removeprefix("http://")
    job = {
        "job_name": "threadwatch",
        "scrape_interval": "5s",
        "scrape_timeout": "5s",
        "static_configs": [{"targets": [address]}],
    }
    return json.dumps({"scrape_configs": [job]})


def _conclude(daemon: Serving, server: Prometheus, notes: Notes, minutes: float) -> None:
    """Note what can be said at the end only."""
    over = f"{minutes * 60 + 30:.0f}s"
    # one by one: resets() drops the metric's name
    for counter in server.query(f"count by (__name__) ({COUNTERS})"):
        name = counter.labels["__name__"]
        for result in server.query(f"resets({name}[{over}]) > 0"):
            labels = ",".join(f"{key}={json.dumps(value)}" for key, value in result.labels.items())
            for series in server.samples(f"{name}{{{labels}}}", over):
                notes.violations += [
                    f"reset: {name}{{{labels}}}: {text}"
                    for text in checks.falls(series.values, hardship.EXPIRE_S)
                ]
    (up,) = server.query(f'min_over_time(up{{job="threadwatch"}}[{over}])')
    if up.value != 1:
        notes.violations.append("a scrape by Prometheus failed")
    if minutes >= LEAST_FOR_TRENDS:
        rss, fds = checks.trend(notes.rss_kib), checks.trend(notes.fds)
        if rss.grows(share=0.05, amount=1024):
            notes.violations.append(f"RSS grows: {_trend(rss)} KiB")
        if fds.grows(share=0.1, amount=8):
            notes.violations.append(f"open files grow: {_trend(fds)}")
    if notes.skipped > 0.02 * notes.polls + 2:
        notes.violations.append(f"{notes.skipped:.0f} polls skipped of {notes.polls:.0f}")
    log = daemon.text()
    wrong = checks.unexplained(notes.errors, notes.polls)
    notes.violations += [f"unexplained: {text}" for text in wrong]
    if wrong:  # the first of each kind is in the log, with what can be said of it
        notes.violations += [line for line in log.splitlines() if "cannot read all" in line]
    if "Traceback" in log or "exception=" in log:
        notes.violations.append(f"an exception in the log: {log[-2000:]}")


def report(notes: Notes, counts: dict[str, int]) -> str:
    """Return what was measured, as text."""
    lines = ["", "THE DAEMON"]
    for what, samples, unit in (
        ("RSS", notes.rss_kib, "KiB"),
        ("open files", notes.fds, ""),
        ("series", notes.series, ""),
    ):
        if samples:
            lines.append(f"  {what:12} {_trend(checks.trend(samples))} {unit}")
            lines.append(f"  {'':12} tenth by tenth: {' '.join(map(str, checks.tenths(samples)))}")
    lines.append(f"  polls        {notes.polls:.0f}, skipped {notes.skipped:.0f}")
    if len(notes.scrape_s) > 20:
        took = statistics.quantiles(notes.scrape_s, n=100)
        lines.append(
            f"  a scrape     median {took[49] * 1e3:.1f} ms, 99 % within {took[98] * 1e3:.1f} ms,"
            f" longest {max(notes.scrape_s) * 1e3:.1f} ms"
        )
    lines += [
        f"  read error   {source} {reason}: {count:.0f} ({checks.explanation(source, reason)})"
        for (source, reason), count in sorted(notes.errors.items())
    ]
    lines += [
        "CONSERVATION",
        f"  {notes.looks} scrapes, with groups {notes.checked_groups}",
        f"  most that a group had open: {notes.worst_open_s * 1e3:.1f} ms",
    ]
    lines += [
        f"  {UNATTRIBUTED} in {name}: {nobody_s:.2f} s of {cpu_s:.2f} s"
        for name, (nobody_s, cpu_s) in sorted(notes.nobody.items())
    ]
    lines += [
        f"  minute {minute:5.1f}  witness {name:8} {clock_s:9.3f} s, shown {off_s * 1e3:+.1f} ms"
        for minute, name, clock_s, off_s in notes.witness
    ]
    lines.append("HARDSHIP")
    lines += [f"  {count:6} {what}" for what, count in sorted(counts.items())]
    return "\n".join(lines)


def _trend(found: Trend) -> str:
    return (
        f"{found.first:.0f} at first, {found.last:.0f} at last, {found.most:.0f} at most,"
        f" {found.slope:+.2f} a minute"
    )


if __name__ == "__main__":
    sys.exit(main())
