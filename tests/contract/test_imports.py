"""Imports run one way, and what runs inside other people's processes imports next to nothing."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import grimp
import pytest

from tests import testbed
from tests.testbed import Interpreter
from threadwatch.attach import script

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"__main__", "commands"}),
    frozenset({"attach", "doctor", "top", "web"}),
    frozenset({"poll", "closeup"}),
    frozenset({"discovery", "threads", "waits"}),
    frozenset({"metrics", "words"}),
    frozenset({"targets"}),
    frozenset({"names", "tasks", "labels", "reading", "accounting", "handover"}),
    frozenset({"procfs", "config", "shipped", "sockets", "stacks"}),
    frozenset({"", "_autostart", "publisher", "inject"}),
    frozenset({"model", "errors"}),
)
"""Top-level modules of the package (patterns of fnmatch), the highest layer first. A module imports its
own layer and lower ones only. The package itself is the empty name."""

TARGET = LAYERS[-2]
"""What runs inside a watched process. It imports nothing of the package but itself."""

THIRD_PARTY = {
    "bcrypt": frozenset({"web"}),
    "h11": frozenset({"web"}),
    "rich": frozenset({"top"}),  # textual's own, for pieces of text with a style
    "textual": frozenset({"top"}),
    "prometheus_client": frozenset({"metrics"}),
    "yaml": frozenset({"config"}),
}
"""Each dependency, and the top-level modules that may import it."""

PYTHON = sys.stdlib_module_names | {"_interpreters", "_xxsubinterpreters"}
"""Python's own modules, those of other versions too."""

# What the publisher may import from the standard library: modules that the interpreter has loaded
# anyway before an application's first line, and small ones written in C. None of them may bring in
# threading, which gevent has to be able to patch first, or anything that takes milliseconds.
ALLOWED = frozenset(
    {
        *("_abc", "_collections", "_collections_abc", "_stat", "abc", "errno", "genericpath", "os"),
        *("os.path", "posixpath", "stat"),  # imported by site, so only -S shows them
        *("_struct", "_thread", "binascii", "fcntl", "itertools", "mmap", "struct", "sys", "time"),
        "atexit",
    }
)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Return which module imports which, function bodies and TYPE_CHECKING blocks included."""
    return grimp.build_graph("threadwatch", include_external_packages=True, cache_dir=None)


def _top(module: str) -> str:
    """Return ``threadwatch.web.server`` → ``web``."""
    return [*module.split("."), ""][1]


def _in(module: str, patterns: frozenset[str]) -> bool:
    return any(fnmatchcase(_top(module), pattern) for pattern in patterns)


def _rank(module: str) -> int:
    for rank, layer in enumerate(LAYERS):
        if _in(module, layer):
            return rank
    raise AssertionError(f"{module} is in no layer: give it its place in LAYERS of this file")


def _ours(graph: grimp.ImportGraph) -> list[tuple[str, str]]:
    """Return all imports within the package, as (importer, imported)."""
    modules = sorted(m for m in graph.modules if m.split(".")[0] == "threadwatch")
    assert len(modules) > 10, "the package's modules were not found"
    return [
        (module, imported)
        for module in modules
        for imported in sorted(graph.find_modules_directly_imported_by(module))
        if imported in modules
    ]


def test_imports_point_down_the_layers(graph: grimp.ImportGraph) -> None:
    """No module imports one of a layer above its own."""
    upwards = [(a, b) for a, b in _ours(graph) if _rank(a) > _rank(b)]
    assert not upwards, upwards


def test_no_import_cycles(graph: grimp.ImportGraph) -> None:
    """Within a layer too, no module imports itself by way of others.

    What the package itself imports is left out: it is there before any of its modules, and imports them
    in functions only, which ``test_publishing_imports_an_allow_list_only`` shows.
    """
    modules = copy.deepcopy(graph)
    for imported in modules.find_modules_directly_imported_by("threadwatch"):
        modules.remove_import(importer="threadwatch", imported=imported)
    cycles = [(a, b) for a, b in _ours(modules) if modules.chain_exists(importer=b, imported=a)]
    assert not cycles, cycles


def test_target_modules_import_only_each_other(graph: grimp.ImportGraph) -> None:
    """What runs in a target imports nothing else of the package, and nothing that is not in Python itself."""
    for module in sorted(m for m in graph.modules if m.split(".")[0] == "threadwatch"):
        if not _in(module, TARGET):
            continue
        for imported in graph.find_modules_directly_imported_by(module):
            root = imported.split(".")[0]
            if root == "threadwatch":
                assert _in(imported, TARGET), f"{module} imports {imported}"
            else:
                assert root in PYTHON, f"{module} imports {imported}"


def test_attach_takes_along_all_that_publishing_imports(graph: grimp.ImportGraph) -> None:
    """The script of ``attach`` has each module that publishing imports, and no other."""
    publisher = "threadwatch.publisher.publisher"
    imported = graph.find_upstream_modules(publisher)
    ours = {name for name in imported if name.partition(".")[0] == "threadwatch"}
    taken = {name for name, _ in script.sources()}
    assert taken == ours | {publisher, "threadwatch.publisher"}


def test_only_commands_can_change_a_process(graph: grimp.ImportGraph) -> None:
    """Nothing of the daemon imports what writes to other processes."""
    importers = {a for a, b in _ours(graph) if _top(b) == "attach" and _top(a) != "attach"}
    assert importers == {"threadwatch.commands.attach"}


def test_dependencies_are_used_where_they_belong(graph: grimp.ImportGraph) -> None:
    """Each dependency is imported in its one place, and there are no others."""
    for module in sorted(m for m in graph.modules if m.split(".")[0] == "threadwatch"):
        for imported in graph.find_modules_directly_imported_by(module):
            root = imported.split(".")[0]
            if root != "threadwatch" and root not in PYTHON:
                assert root in THIRD_PARTY, f"{module} imports {imported}: an undeclared dependency"
                assert _in(module, THIRD_PARTY[root]), f"{module} imports {imported}"


def test_publishing_imports_an_allow_list_only(interpreter: Interpreter) -> None:
    """Importing the package loads itself alone; publishing adds only small modules of Python's own."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); start = set(sys.modules); import threadwatch;"
        " imported = set(sys.modules) - start; published = threadwatch.publish();"
        " both = set(sys.modules) - start; import json;"
        " print(json.dumps([published, sorted(imported), sorted(both)]))"
    )
    done = subprocess.run(
        [*interpreter.command, "-I", "-S", "-W", "error", "-c", program, str(testbed.CHECKOUT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    published, imported, both = json.loads(done.stdout)
    assert published is True
    assert imported == ["threadwatch"]
    theirs = {module for module in both if module.split(".")[0] != "threadwatch"}
    assert theirs <= ALLOWED
    assert all(_in(module, TARGET) for module in both if module not in theirs)


def test_what_run_imports_is_linted_as_python_3_9() -> None:
    """Each module that ``threadwatch run`` imports is on the list of those that keep the syntax of 3.9."""
    program = (
        "import sys; import threadwatch.commands.main, threadwatch.commands.run;"
        " print(*(m.__file__ for n, m in sys.modules.items() if n.partition('.')[0] == 'threadwatch'))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    files = {str(Path(name).relative_to(testbed.CHECKOUT)) for name in done.stdout.split()}
    assert len(files) > 5, "the modules were not found"
    settings = tomllib.loads((testbed.CHECKOUT / "pyproject.toml").read_text())
    kept = settings["tool"]["ruff"]["per-file-target-version"]
    assert not {file for file in files if not any(fnmatchcase(file, glob) for glob in kept)}


def test_the_picture_has_all_packages() -> None:
    """docs/architecture.md begins with a picture that has each package, and says in a row what it does."""
    page = (testbed.CHECKOUT / "docs/architecture.md").read_text()
    picture = page.split("```")[1]
    drawn = set(re.findall(r"\w+", "\n".join(line[:41] for line in picture.splitlines())))
    packages = {path.parent.name for path in (testbed.CHECKOUT / "threadwatch").glob("*/*.py")}
    assert len(packages) > 20, "the packages were not found"
    missing = packages - drawn
    assert not missing, f"not in the picture: {missing}"
    missing = {name for name in packages if f"\n| `{name}` | " not in page}
    assert not missing, f"without a row: {missing}"
