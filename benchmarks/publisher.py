"""What publishing costs the application, on each interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.publisher_tables import Measured, tables
from benchmarks.report import Result
from benchmarks.running import CHECKOUT, BenchmarkError, cpu_of, process_clock_ns, switches
from tests import testbed
from tests.testbed import Interpreter

WHAT = """\
Real applications in small: [benchmarks/inside.py](../benchmarks/inside.py) runs on the interpreter
in question.

*Threads*: start and join threads that do nothing, in one process that publishes and does not
publish by turns; each pair gives one ratio, and the table has their median with its 95 % confidence
interval. CPU time is the process clock's. Beside a neighbour, another thread wants the GIL all the
time: then a start takes milliseconds, which vary by more than anything that a publisher does. So
whether the publisher adds a wait for the GIL is counted instead: in how many births and deaths a
thread that waits for the GIL gets it, when no thread is made to give it up. The control calls fstat,
which lets go of the GIL for a moment, instead of the hooks.

*Hooks*: what the publisher does at the birth and at the death of a thread, called in a loop in one
thread: the median in real time of each, and the CPU time of both, less what the loop takes without
them. *Rename*: CPU time of setting `Thread.name`.

*Fork*: the parent's and the child's CPU time, and the real time until a child that ends at once has
ended. A child makes a table of its own.

*Starting*: a new process each time; the modules' bytecode is there, and in the cache. Import and
publishing are timed inside the process. Start-up is CPU time of `python -c pass` from beginning to
end (getrusage of the child), the variants taking turns: without the start-up file, with it but
without THREADWATCH, and with THREADWATCH=1.

*At rest*: two processes of 100 sleeping threads side by side, one of which publishes: how often
their threads were switched to, and what the process clock gained."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to repeat."""

    pairs: int
    contended_pairs: int
    handovers: int
    """Births and deaths."""
    starts: int
    """Fresh processes per variant."""
    rest: float
    """Seconds of sleep."""


QUICK = Plan(pairs=30, contended_pairs=6, handovers=20_000, starts=15, rest=3)
FULL = Plan(pairs=300, contended_pairs=60, handovers=200_000, starts=150, rest=30)


def run(*, full: bool, everywhere: bool) -> Result:
    """Measure on the oldest, the newest and the daemon's own interpreter, or ``everywhere``."""
    missing = []
    try:
        testbed.enter()
    except testbed.TestbedError as error:
        missing.append(f"interpreters of the testbed: {error}")
    found = [i for i in testbed.interpreters() if not missing or i.root == Path("/")]
    if not found:
        raise BenchmarkError("no interpreter was found that can publish")
    if not everywhere:
        chosen = (found[0].version, found[-1].version, sys.version_info[:2])
        found = [i for i in found if i.version in chosen]
    missing += [
        f"CPython {v[0]}.{v[1]}: {testbed.how_to_get(v)}"
        for v in testbed.MATRIX
        if everywhere and v not in {i.version for i in found}
    ]
    plan = FULL if full else QUICK
    measured = {interpreter: _measure(interpreter, plan) for interpreter in found}
    return Result(
        "publisher",
        WHAT,
        tables(measured),
        {str(i): _raw(i, m) for i, m in measured.items()},
        tuple(missing),
    )


def _raw(interpreter: Interpreter, measured: Measured) -> dict[str, Any]:
    return {
        "release": interpreter.release,
        **{name: getattr(measured, name) for name in Measured.__slots__},
    }


def _measure(interpreter: Interpreter, plan: Plan) -> Measured:
    return Measured(
        alone=_inside(interpreter, "starts", plan.pairs, 200, 0),
        contended=_inside(interpreter, "starts", plan.contended_pairs, 20, 1),
        handovers=_inside(interpreter, "handovers", plan.handovers),
        hooks=_inside(interpreter, "hooks", plan.pairs, 1000),
        renames=_inside(interpreter, "renames", plan.pairs, 1000),
        forks=_inside(interpreter, "forks", plan.pairs, 10),
        starts=_starts(interpreter, plan.starts),
        startup=_startup(interpreter, plan.starts),
        rest=_rest(interpreter, plan.rest),
    )


def _environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "THREADWATCH"))}
    return {**kept, "PYTHONPATH": str(CHECKOUT), **more}


def _inside(interpreter: Interpreter, what: str, *numbers: int) -> Any:  # JSON
    done = subprocess.run(
        [*interpreter.command, "-m", "benchmarks.inside", what, *map(str, numbers)],
        cwd=CHECKOUT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"{interpreter}: {what}: {done.stderr.strip()}")
    return json.loads(done.stdout)


_IMPORT = """
import time
began = time.perf_counter(), time.process_time()
import threadwatch.publisher.publisher
imported = time.perf_counter(), time.process_time()
assert threadwatch.publisher.publisher.publish()
done = time.perf_counter(), time.process_time()
print([1000 * (b - a) for a, b in zip(began + imported, imported + done)])
"""


def _starts(interpreter: Interpreter, count: int) -> dict[str, list[float]]:
    """Importing and publishing in fresh processes, in ms: real and CPU time of each."""
    found: dict[str, list[float]] = {}
    for number in range(count + 1):
        done = subprocess.run(
            [*interpreter.command, "-c", _IMPORT],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        if number == 0:
            continue  # may have had to compile
        names = ("import_real_ms", "import_cpu_ms", "publish_real_ms", "publish_cpu_ms")
        for name, value in zip(names, json.loads(done.stdout), strict=True):
            found.setdefault(name, []).append(value)
    return found


def _startup(interpreter: Interpreter, count: int) -> dict[str, list[float]]:
    """CPU time of ``python -c pass`` in ms, by what there is in its site directory."""
    with tempfile.TemporaryDirectory() as directory:
        bare, installed = Path(directory, "bare"), Path(directory, "installed")
        variants = {
            "without": _site_environment(bare),
            "with": _site_environment(installed),
            "publishing": _site_environment(installed, THREADWATCH="1"),
        }
        for base in (bare, installed):
            site = _user_site(interpreter, base)
            site.mkdir(parents=True)
            if base == installed:
                pth = CHECKOUT / "packaging" / "prometheus-threadwatch.pth"
                (site / pth.name).write_bytes(pth.read_bytes())
                (site / "threadwatch").symlink_to(CHECKOUT / "threadwatch")
        for name, expected in (("without", "False"), ("with", "False"), ("publishing", "True")):
            found = _print(
                interpreter, variants[name], "'threadwatch.publisher.publisher' in sys.modules"
            )
            if found != expected:
                raise BenchmarkError(
                    f"{interpreter}: {name} the start-up file: publishing is {found}"
                )
        times: dict[str, list[float]] = {name: [] for name in variants}
        names = list(variants)
        for _ in range(count):
            for name in names:
                seconds = cpu_of([*interpreter.command, "-c", "pass"], variants[name])
                times[name].append(1000 * seconds)
            names.append(names.pop(0))
        return times


def _site_environment(base: Path, **more: str) -> dict[str, str]:
    environment = _environment(PYTHONUSERBASE=str(base), **more)
    del environment["PYTHONPATH"]
    return environment


def _user_site(interpreter: Interpreter, base: Path) -> Path:
    return Path(
        _print(interpreter, _site_environment(base), "__import__('site').getusersitepackages()")
    )


def _print(interpreter: Interpreter, environment: Mapping[str, str], expression: str) -> str:
    done = subprocess.run(
        [*interpreter.command, "-c", f"import sys; print({expression})"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def _rest(interpreter: Interpreter, seconds: float) -> dict[str, dict[str, float]]:
    """Two processes that do nothing, side by side: context switches and CPU time of all their threads."""
    with (
        _resting(interpreter, publishing=False) as without,
        _resting(interpreter, publishing=True) as with_,
    ):
        time.sleep(1)  # for the threads to have gone to sleep
        pids = {"without": without, "with": with_}
        before = {name: (_all_switches(pid), process_clock_ns(pid)) for name, pid in pids.items()}
        time.sleep(seconds)
        found = {}
        for name, pid in pids.items():
            (voluntary, involuntary), clock = _all_switches(pid), process_clock_ns(pid)
            found[name] = {
                "voluntary": voluntary - before[name][0][0],
                "involuntary": involuntary - before[name][0][1],
                "cpu_ns": clock - before[name][1],
                "seconds": seconds,
            }
        return found


@contextlib.contextmanager
def _resting(interpreter: Interpreter, *, publishing: bool) -> Iterator[int]:
    process = subprocess.Popen(
        [*interpreter.command, "-m", "benchmarks.inside", "rest", "100", str(int(publishing))],
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield int(json.loads(process.stdout.readline())["pid"])
    finally:
        process.communicate(timeout=60)


def _all_switches(pid: int) -> tuple[int, int]:
    pairs = switches(pid).values()
    return sum(voluntary for voluntary, _ in pairs), sum(involuntary for _, involuntary in pairs)
