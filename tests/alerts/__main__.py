"""``./dev alerts``: which alert fires for which real program, with a real daemon and a real Prometheus.

Prints a table, and exits with 1 if an alert fired for what it does not name, or did not for what it does.
Names of programs that use CPU (``burns`` …) as arguments run these alone.
Everything runs in a PID namespace of its own, and takes about four minutes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.alerts.hurried import hurried
from tests.harness import TARGETS, threadwatch, until
from tests.prometheus import ON_PATH, Prometheus
from tests.serving import Serving, serving
from tests.testbed import CHECKOUT

FACTOR: Final = 100.0
RULES: Final = CHECKOUT / "config" / "prometheus" / "rules" / "threadwatch.yml"
DEMO: Final = CHECKOUT / "threadwatch" / "commands" / "demo_app.py"
FOR_ALL: Final = 18.0
"""Seconds for a window and a wait of alerts on rates, and for what has to start before."""
AT_MOST: Final = 50.0
"""Seconds after which an alert that has not fired does not."""
FOR_LEAKS: Final = 80.0
"""Seconds for an hour and a wait, and for what has to have been there before."""
FIRST: Final = ("nice", "-n", "-19", "sh", "-c", 'echo -19 >/proc/self/autogroup; exec "$@"', "sh")
"""Goes before all else, so that what else this machine does is not what is measured (sched(7))."""

CONFIG: Final = r"""
poll_interval: 200ms
unmatched: ignore
waits:
  rate: 100
groups:
  - name: demo_app
    match:
      cmdline: 'demo_app\.py'
  - name: too_many
    match:
      cmdline: 'alerting\.py too_many'
    threads:
      cap: 20
  - name: '{name}'
    match:
      cmdline: 'alerting\.py (?P<name>\w+)'
"""
PROMETHEUS: Final = """
global:
  scrape_interval: 500ms
  scrape_timeout: 450ms
  evaluation_interval: 500ms
rule_files: ["{rules}"]
scrape_configs:
  - job_name: threadwatch
    static_configs:
      - targets: [{targets}]
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One program, or one daemon."""

    what: str
    """It, in a few words."""
    expected: frozenset[str] = frozenset()
    """The alerts that it has to raise, each with its thread, if it is about one."""
    tolerated: frozenset[str] = frozenset()
    """Those that it may raise, because it has that fault, too, on some machines."""


def _case(what: str, *expected: str, also: tuple[str, ...] = ()) -> Case:
    return Case(what, frozenset(expected), frozenset(also))


AT_REST: Final = {
    "leaks": _case("starts threads of one name that never end", "ThreadLeak conn_N"),
    "leaks_names": _case(
        "starts threads with a name each that never end",
        "ThreadLeakOfManyNames",
        also=("SeriesDropped",),
    ),
    "fills": _case("fills a pool of 80 threads, and stops"),
    "comes_and_goes": _case("has a thread of its own name for each connection, for 2 s"),
    "disk_stuck": _case("has a thread that waits for a device all the time", "DiskWait writer"),
    "disk_busy": _case("has one that waits for half of the time"),
    "too_many": _case("has more names than its cap", "SeriesDropped"),
    "few": _case("has two threads that sleep"),
}
"""They use next to no CPU, and run all the time, side by side."""
BRIEF: Final = {
    "gone": _case("ran for half of the day, and has ended", "GroupAbsent"),
    "script": _case("ran for a moment, and has ended"),
}
ALONE: Final = {
    "burns": _case("has a thread that computes without a pause", "ThreadBurnsCPU spinner"),
    "busy_half": _case("has one that computes for half of the time"),
    "saturated": _case("has four threads that compute", "GILSaturated"),
    "releases": _case("computes in two threads, in C and without the GIL"),
    "convoy": _case(
        "has four threads with little work beside one that computes",
        "ThreadStarvesForGIL http_N",
        also=("ThreadBurnsCPU report-builder", "GILSaturated"),
    ),
    "polite": _case("has the same four; what computes is a process of its own"),
    "demo": _case("is the demo's application"),
    "demo_crowded": _case("is the same on a CPU that eight others want", "GroupLacksCPU"),
}
"""They use CPU, and run one after the other."""
DAEMONS: Final = {
    "healthy": _case("a daemon that watches all these"),
    "killed": _case("a daemon that has been killed", "Down"),
    "stopped": _case("a daemon whose thread that polls stands still", "Stale"),
    "misconfigured": _case("a daemon with a bad configuration", "ConfigReloadFailed"),
}


@contextlib.contextmanager
def program(name: str, prefix: tuple[str, ...] = ()) -> Iterator[None]:
    """Run one of the programs meanwhile, with what it starts."""
    target = [str(DEMO)] if name.startswith("demo") else [str(TARGETS / "alerting.py"), name]
    process = subprocess.Popen(
        [*FIRST, *prefix, *threadwatch("run", "--", sys.executable, *target)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextlib.contextmanager
def program_on_disk(place: Path, *, frozen_s: float, free_s: float) -> Iterator[None]:
    """Run the program called as the directory; the file system at its ALERTING_DISK is frozen at times."""
    image, mount = place / "image", place / "disk"
    mount.mkdir(parents=True)
    image.write_bytes(bytes(16 << 20))
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    os.environ["ALERTING_DISK"] = str(mount)
    loop = f"while :; do fsfreeze -f {mount}; sleep {frozen_s}; fsfreeze -u {mount}; sleep {free_s}; done"
    freezer = subprocess.Popen(["sh", "-c", loop], start_new_session=True)

    def free() -> None:
        os.killpg(freezer.pid, signal.SIGKILL)
        freezer.wait()
        subprocess.run(["fsfreeze", "-u", mount], check=False, capture_output=True)

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: subprocess.run(["umount", "-l", mount], check=True))
        stack.enter_context(program(place.name))
        # Before the program is killed: a thread that waits for a frozen file system cannot be.
        stack.callback(free)
        yield


@contextlib.contextmanager
def crowd(cpu: str, number: int) -> Iterator[None]:
    """Processes that want that CPU."""
    command = [*FIRST, "taskset", "-c", cpu, "sh", "-c", "while :; do :; done"]
    # each with a session, and so a share of the CPU, of its own
    crowd = [subprocess.Popen(command, start_new_session=True) for _ in range(number)]
    try:
        yield
    finally:
        for process in crowd:
            process.kill()
            process.wait()


@contextlib.contextmanager
def thread_stopped(tid: int) -> Iterator[None]:
    """Stop one thread of a process, as a debugger does; the others run on."""
    code = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0\n"  # PTRACE_SEIZE
        "assert libc.ptrace(0x4207, int(sys.argv[1]), 0, 0) == 0\n"  # PTRACE_INTERRUPT
        "os.waitpid(int(sys.argv[1]), 0x40000000); print('ready', flush=True); sys.stdin.read()"
    )
    tracer = subprocess.Popen(
        [sys.executable, "-c", code, str(tid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == b"ready\n"
        yield
    finally:
        tracer.communicate()


def fired(prometheus: Prometheus, names: Mapping[str, str], since: float) -> dict[str, set[str]]:
    """Return what has fired since that time, by group, or by daemon where no group is named.

    ``names``: the daemons by their addresses.
    """
    found: dict[str, set[str]] = {}
    over = f"{max(time.monotonic() - since, 1):.0f}s"
    for one in prometheus.query(f'max_over_time(ALERTS{{alertstate="firing"}}[{over}])'):
        alert = one.labels["alertname"].removeprefix("Threadwatch")
        about = one.labels.get("group") or names.get(one.labels.get("instance", ""), "no daemon")
        thread = one.labels.get("thread")
        found.setdefault(about, set()).add(f"{alert} {thread}" if thread else alert)
    return found


def daemons(stack: contextlib.ExitStack, place: Path) -> dict[str, Serving]:
    """Start a daemon that watches all, and three that watch nothing."""
    started = {}
    for name in DAEMONS:
        directory = place / name
        directory.mkdir()
        config = directory / "threadwatch.yml"
        config.write_text(
            CONFIG if name == "healthy" else "poll_interval: 200ms\nunmatched: ignore\n"
        )
        started[name] = stack.enter_context(
            serving(directory, f"--config.file={config}", prefix=FIRST)
        )
    return started


def run(place: Path, only: Collection[str]) -> dict[str, set[str]]:
    """Run all programs, or those that use CPU and are named; return which alerts have fired for which."""
    seen: dict[str, set[str]] = {}
    with contextlib.ExitStack() as stack:
        started = daemons(stack, place)
        names = {one.url.removeprefix("http://"): name for name, one in started.items()}
        rules = place / "rules.yml"
        rules.write_text(hurried(RULES.read_text(encoding="utf-8"), FACTOR))
        config = PROMETHEUS.format(rules=rules, targets=", ".join(f'"{name}"' for name in names))
        prometheus = stack.enter_context(
            Prometheus(place, config=config, command=(*FIRST, *ON_PATH))
        )
        brief = {name: contextlib.ExitStack() for name in BRIEF}
        for name in () if only else AT_REST:
            if name == "disk_stuck":
                on_disk = program_on_disk(place / name, frozen_s=3600, free_s=0)
                stack.enter_context(on_disk)
            elif name == "disk_busy":
                stack.enter_context(program_on_disk(place / name, frozen_s=0.1, free_s=0.1))
            else:
                stack.enter_context(program(name))
        for name, one in () if only else brief.items():
            one.enter_context(program(name))
        time.sleep(FOR_ALL)
        since = time.monotonic()  # what is missing while all starts is no fault
        started["killed"].process.kill()
        stack.enter_context(thread_stopped(started["stopped"].process.pid))
        (place / "misconfigured" / "threadwatch.yml").write_text("poll_intervall: 1s\n")
        started["misconfigured"].process.send_signal(signal.SIGHUP)
        brief["script"].close()
        time.sleep(0 if only else FOR_LEAKS - FOR_ALL)
        brief["gone"].close()
        for name in only or ALONE:
            _say(name)
            seen[name] = run_alone(name, lambda: fired(prometheus, names, since))
        found = fired(prometheus, names, since)
        found.pop("demo_app", None)
        return {**found, **seen}


def run_alone(name: str, look: Callable[[], dict[str, set[str]]]) -> set[str]:
    """Run a program that uses CPU; return which alerts have fired for it, as ``look`` shows them."""
    group = "demo_app" if name.startswith("demo") else name
    before = look().get(group, set())
    crowded = name == "demo_crowded"

    def raised() -> set[str]:
        return look().get(group, set()) - before

    with (
        crowd("0", 8) if crowded else contextlib.nullcontext(),
        program(name, ("taskset", "-c", "0") if crowded else ()),
    ):
        time.sleep(FOR_ALL)
        with contextlib.suppress(AssertionError):  # the table says which alert is missing
            until(lambda: raised() >= ALONE[name].expected, name, AT_MOST - FOR_ALL, every=1)
        return raised()


def _say(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Print the table; return 1 if a line of it is wrong."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that frozen file systems are freed
    os.setsid()
    Path("/proc/self/autogroup").write_text("-19")
    with tempfile.TemporaryDirectory() as name:
        found = run(Path(name), sys.argv[1:])
    cases = {**AT_REST, **BRIEF, **ALONE, **DAEMONS}
    if only := sys.argv[1:]:
        cases = {name: case for name, case in cases.items() if name in (*only, *DAEMONS)}
    for name in found.keys() - cases.keys():
        cases[name] = Case("not expected at all")
    wrong = 0
    for name, case in cases.items():
        raised = found.get(name, set())
        missing, false = case.expected - raised, raised - case.expected - case.tolerated
        remarks = [
            *(f"MISSING {one}" for one in sorted(missing)),
            *(f"FALSE {one}" for one in sorted(false)),
        ]
        wrong += bool(remarks)
        verdict = "; ".join(remarks) or "as it should be"
        print(f"{name:15} {case.what:70} {', '.join(sorted(raised)) or '-':60} {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
