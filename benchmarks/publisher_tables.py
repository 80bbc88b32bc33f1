"""Tables of what publishing costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.estimate import Estimate, differences, estimate, ratios
from benchmarks.report import Table
from tests.testbed import Interpreter


@dataclass(slots=True)
class Measured:
    """What one interpreter gave; as :mod:`benchmarks.inside` says it."""

    alone: dict[str, dict[str, list[float]]]
    contended: dict[str, dict[str, list[float]]]
    handovers: dict[str, int]
    hooks: dict[str, list[float]]
    renames: dict[str, dict[str, list[float]]]
    forks: dict[str, dict[str, list[float]]]
    starts: dict[str, list[float]]
    startup: dict[str, list[float]]
    rest: dict[str, dict[str, float]] = field(default_factory=dict)


def tables(measured: Mapping[Interpreter, Measured]) -> tuple[Table, ...]:
    """Return all of them; a row for each interpreter."""
    made = (_threads_table, _events_table, _start_table, _rest_table)
    return tuple(table(measured) for table in made)


def _threads_table(measured: Mapping[Interpreter, Measured]) -> Table:
    rows = []
    for interpreter, found in measured.items():
        alone, beside = found.alone, found.contended
        rows.append(
            (
                interpreter.release,
                estimate(alone["without"]["cpu_us"]).text(1),
                estimate(differences(alone["with"]["cpu_us"], alone["without"]["cpu_us"])).text(1),
                _ratio(alone, "cpu_us").percent(),
                _ratio(alone, "real_us").percent(),
                estimate(beside["without"]["real_us"]).scaled(1e-3).text(1),
                estimate(beside["with"]["real_us"]).scaled(1e-3).text(1),
                str(found.handovers["hooks"]),
                str(found.handovers["control"]),
            )
        )
    return Table(
        "threads: start and join",
        (
            "CPython",
            "CPU, µs",
            "more with the publisher, µs",
            "CPU more",
            "real time more (goal 5 %)",
            "beside a neighbour: real time, ms",
            "with the publisher",
            "hand-overs of the GIL (goal 0)",
            "control",
        ),
        tuple(rows),
    )


def _ratio(samples: Mapping[str, Mapping[str, Sequence[float]]], key: str) -> Estimate:
    return estimate(ratios(samples["with"][key], samples["without"][key]))


def _difference(samples: Mapping[str, Mapping[str, Sequence[float]]], key: str) -> Estimate:
    return estimate(differences(samples["with"][key], samples["without"][key]))


def _events_table(measured: Mapping[Interpreter, Measured]) -> Table:
    rows = []
    for interpreter, found in measured.items():
        both = estimate(found.hooks["both_cpu_us"])
        goal = "met" if both.median < 6 else "missed"
        rows.append(
            (
                interpreter.release,
                estimate(found.hooks["birth_us"]).text(),
                estimate(found.hooks["death_us"]).text(),
                f"{both.text()} (goal 6: {goal})",
                estimate(found.renames["without"]["cpu_us"]).text(),
                _difference(found.renames, "cpu_us").text(),
                estimate(found.forks["without"]["real_us"]).text(0),
                _difference(found.forks, "real_us").text(0),
                _difference(found.forks, "parent_us").text(0),
                _difference(found.forks, "child_us").text(0),
            )
        )
    return Table(
        "hooks and fork, in µs",
        (
            "CPython",
            "birth",
            "death",
            "both, CPU",
            "rename without",
            "more",
            "fork and wait: real time without",
            "more",
            "parent's CPU more",
            "child's CPU more",
        ),
        tuple(rows),
    )


def _start_table(measured: Mapping[Interpreter, Measured]) -> Table:
    rows = []
    for interpreter, found in measured.items():
        starts, startup = found.starts, found.startup
        real = [
            a + b for a, b in zip(starts["import_real_ms"], starts["publish_real_ms"], strict=True)
        ]
        both = estimate(real)
        goal = "met" if both.median <= 2 else "missed"
        rows.append(
            (
                interpreter.release,
                estimate(starts["import_real_ms"]).text(),
                estimate(starts["publish_real_ms"]).text(),
                f"{both.text()} (goal 2: {goal})",
                estimate(
                    [
                        a + b
                        for a, b in zip(
                            starts["import_cpu_ms"], starts["publish_cpu_ms"], strict=True
                        )
                    ]
                ).text(),
                estimate(startup["without"]).text(1),
                estimate(differences(startup["with"], startup["without"])).text(),
                estimate(differences(startup["publishing"], startup["without"])).text(),
            )
        )
    return Table(
        "starting, in ms",
        (
            "CPython",
            "import",
            "publish()",
            "both",
            "both, CPU",
            "python -c pass, CPU",
            "more with the start-up file",
            "more with THREADWATCH=1",
        ),
        tuple(rows),
    )


def _rest_table(measured: Mapping[Interpreter, Measured]) -> Table:
    rows = []
    for interpreter, found in measured.items():
        cells = [interpreter.release, f"{found.rest['with']['seconds']:.0f}"]
        for name in ("without", "with"):
            rest = found.rest[name]
            cells += [
                f"{rest['voluntary']:.0f} + {rest['involuntary']:.0f}",
                f"{rest['cpu_ns']:.0f}",
            ]
        rows.append(tuple(cells))
    return Table(
        "at rest: 101 threads",
        (
            "CPython",
            "seconds",
            "without: voluntary + involuntary switches",
            "CPU, ns",
            "with: voluntary + involuntary switches",
            "CPU, ns",
        ),
        tuple(rows),
    )
