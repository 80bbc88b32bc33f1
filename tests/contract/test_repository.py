"""What holds for the files of the repository themselves."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.testbed import CHECKOUT

_SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore)\b")
_NAMED = re.compile(
    r"#\s*(noqa:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*|type:\s*ignore\[[\w, -]+\])(?P<rest>.*)"
)


def _files() -> list[Path]:
    """Return all files that are, or are about to be, in version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    files = [CHECKOUT / name for name in listed.split("\0") if name]
    assert len(files) > 30, "the repository's files were not found"
    return [path for path in files if path.is_file() and not path.is_symlink()]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def test_no_file_names_this_machine() -> None:
    """No file holds the path of a checkout or of a home directory."""
    places = re.compile(
        "|".join([re.escape(str(CHECKOUT)), re.escape(f"{Path.home()}/"), r"/home/[a-z]\w*/"])
    )
    named = [
        f"{path.relative_to(CHECKOUT)}:{number}: {line.strip()}"
        for path in _files()
        for number, line in enumerate(_text(path).splitlines(), 1)
        if places.search(line)
    ]
    assert not named, "\n".join(named)


def test_every_suppression_says_why() -> None:
    """Each noqa and type: ignore names what it silences, and has a reason beside it or above it."""
    bare = []
    for path in _files():
        above = ""
        for number, line in enumerate(_text(path).splitlines() if path.suffix == ".py" else [], 1):
            named = _NAMED.search(line)
            explained = named and (re.search("[A-Za-z]{3}", named["rest"]) or above.startswith("#"))
            if _SUPPRESSION.search(line) and not explained:
                bare.append(f"{path.relative_to(CHECKOUT)}:{number}: {line.strip()}")
            above = line.strip()
    assert not bare, "\n".join(bare)


def test_every_broad_except_says_why() -> None:
    """Each handler of every exception, or of every one that is an error, has a reason beside it."""
    broad = re.compile(r"\s*except( Exception| BaseException)?( as \w+)?:")
    bare = [
        f"{path.relative_to(CHECKOUT)}:{number}: {line.strip()}"
        for path in _files()
        for number, line in enumerate(_text(path).splitlines() if path.suffix == ".py" else [], 1)
        if broad.match(line) and not re.search(r"#.*[A-Za-z]{3}", line)
    ]
    assert not bare, "\n".join(bare)


def test_no_test_is_skipped() -> None:
    """No test is skipped or expected to fail: what a test needs, tests/setup-testbed provides."""
    evasions = {"skip", "skipif", "importorskip", "xfail"}
    skipped = [
        f"{path.relative_to(CHECKOUT)}:{node.lineno}"
        for path in _files()
        if path.suffix == ".py" and path.is_relative_to(CHECKOUT / "tests")
        for node in ast.walk(ast.parse(_text(path)))
        if isinstance(node, ast.Attribute) and node.attr in evasions
        if ast.unparse(node).startswith(("pytest.", "unittest."))
    ]
    assert not skipped, "\n".join(skipped)


@pytest.mark.parametrize(
    "script",
    [
        *("dev", ".ci/run", "tests/debian-install", "tests/debian-tree"),
        *("tests/setup-engines", "tests/setup-kernels", "tests/setup-testbed"),
    ],
)
def test_scripts_can_be_run(script: str) -> None:
    """The shell scripts are executable, and bash can parse them."""
    path = CHECKOUT / script
    assert path.stat().st_mode & 0o111 == 0o111
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=60)


def test_decisions_have_one_form() -> None:
    """Each decision has its number in its title, says context, decision and consequence, and is listed."""
    directory = CHECKOUT / "docs/decisions"
    listed = (directory / "README.md").read_text()
    for page in sorted(directory.glob("[0-9]*.md")):
        lines = page.read_text().splitlines()
        number, _, title = lines[0].removeprefix("# ").partition(": ")
        assert number == page.name[:4], f"{page.name}: begins with {lines[0]!r}"
        sections = {line[3:].partition(":")[0] for line in lines if line.startswith("## ")}
        missing = {"Context", "Decision", "Consequence"} - sections
        assert not missing, f"{page.name} lacks {sorted(missing)}"
        assert f"| [{number}]({page.name}) | {title} |" in listed, f"README.md lacks {page.name}"
