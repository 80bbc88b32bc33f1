"""The states of threads: one table, and whatever follows from it is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from dashboards.files import DIRECTORY, files
from states.__main__ import filled, parts
from tests.testbed import CHECKOUT
from threadwatch.model import states
from threadwatch.model.states import AWAKE, NAMES, OF_LETTER, STATES
from threadwatch.waits import reasons
from threadwatch.waits.syscalls import CALLS

TABLE = Path(states.__file__)
RULES = Path(reasons.__file__)
METRICS = CHECKOUT / "docs" / "metrics.md"


def _lacking(path: Path, wanted: str) -> Iterator[str]:
    """Yield what to tell of a file that is not what is wanted."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text != wanted:
        missing = sorted(set(wanted.splitlines()) - set(text.splitlines()))
        stale = sorted(set(text.splitlines()) - set(wanted.splitlines()))
        lines = [f"  - {line}" for line in stale] + [f"  + {line}" for line in missing]
        yield "\n".join([f"{path.relative_to(CHECKOUT)}: run ./dev states", *lines[:20]])


def test_files_follow_from_the_table() -> None:
    """./dev states would change nothing: the page, the table of top's letters, and the dashboards."""
    told: list[str] = []
    for path, made in parts().items():
        told += _lacking(path, filled(path.read_text(encoding="utf-8"), made))
    for name, text in files().items():
        told += _lacking(DIRECTORY / name, text)
    assert not told, "\n".join(told)


def _yielded() -> set[str]:
    """Return the texts that functions of ``waits/reasons.py`` return."""
    return {
        text
        for returned in ast.walk(ast.parse(RULES.read_text(encoding="utf-8")))
        if isinstance(returned, ast.Return) and returned.value is not None
        for text in _values(returned.value)
    }


def _values(expression: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression can be, without those in its conditions and arguments."""
    match expression:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _values(body)
            yield from _values(orelse)
        case ast.Call(func=ast.Attribute(attr="get"), args=[_, default]):
            yield from _values(default)
        case _:
            pass


def test_every_state_has_a_rule() -> None:
    """Each state is a letter of the kernel's, a clock's, of some system call, or the result of a rule."""
    calls = {state for state in CALLS if isinstance(state, str)}
    ruled = {*OF_LETTER.values(), *AWAKE, *calls, *_yielded()}
    missing = [state for state in NAMES if state not in ruled]
    assert not missing, (
        f"no rule yields {missing}: give it its system calls in CALLS of threadwatch/waits/syscalls.py, "
        "or a rule in threadwatch/waits/reasons.py"
    )
    unknown = sorted(ruled - set(NAMES))
    assert not unknown, f"a rule yields {unknown}, which has no row in threadwatch/model/states.py"


def test_every_state_has_a_line_in_the_documentation() -> None:
    """The table in docs/metrics.md says of each state what it means, and of no other one."""
    section = METRICS.read_text(encoding="utf-8").split(
        "### `threadwatch_thread_state_seconds_total`"
    )
    table = section[1].split("### ", 1)[0]
    told = re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE)
    missing = [state for state in NAMES if state not in told]
    assert not missing, f"docs/metrics.md: the table of states has no line for {missing}"
    assert sorted(told) == sorted(NAMES), "docs/metrics.md: a line too many in the table of states"


def test_each_row_is_of_its_own() -> None:
    """No name, letter, place or number is given twice; Grafana's numbers have no gap."""
    for what, values in {
        "name": [state.name for state in STATES],
        "kernel's letter": [*"".join(state.kernel for state in STATES)],
        "letter in top": [state.top.letter for state in STATES],
        "place in top": [str(state.top.place) for state in STATES],
        "place on the page": [str(state.page.place) for state in STATES],
    }.items():
        twice = sorted({value for value in values if values.count(value) > 1})
        assert not twice, f"threadwatch/model/states.py: {what} given twice: {', '.join(twice)}"
    numbers = sorted(state.grafana.number for state in STATES)
    assert numbers == list(range(1, len(STATES) + 1)), (
        "threadwatch/model/states.py: Grafana's numbers"
    )
    assert all(len(state.top.letter) == 1 for state in STATES)


def test_no_other_list_of_states() -> None:
    """No Python file has a list of its own of half of the states or more."""
    copies = [
        f"{path.relative_to(CHECKOUT)}:{node.lineno}"
        for folder in ("threadwatch", "dashboards", "benchmarks", "tests")
        for path in sorted((CHECKOUT / folder).rglob("*.py"))
        if path != TABLE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict)
        and len(_named(node)) >= len(NAMES) / 2
    ]
    assert not copies, f"take them from threadwatch/model/states.py: {', '.join(copies)}"


def _named(node: ast.expr) -> set[str]:
    return {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in NAMES
    }
