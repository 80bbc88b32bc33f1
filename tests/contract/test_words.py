"""Plain words: the part of them that a machine can check. docs/development.md has the rules in full."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.testbed import CHECKOUT
from threadwatch.model.keys import SOURCES
from threadwatch.top import detail

_NO_VERBS = frozenset(
    """
    a an the this that these those each every all any some one no none its it he they our
    who whom whose what which where when why how whether whoever whatever if as so
    of in on at by for from to up down with without between nothing nobody somebody
    """.split()  # noqa: SIM905 - easier to read and to extend than a column of literals
)
"""Words with which a sentence can begin, but a verb is none of them."""
_QUESTIONS = frozenset({"who", "whom", "whose", "what", "which", "where", "when", "why", "how"})

_LOOSE = {
    "so many, so much": re.compile(
        r"\bso (?:many|much)\b(?! (?:\w+ )?(?:that|as)\b)", re.IGNORECASE
    ),
    "a clause that begins with a bare 'who'": re.compile(
        r"(?:^|[.!:;?] |\b(?:for|of|by|to|and) )who (?!\w+ (?:is|are)\?)\w", re.IGNORECASE
    ),
    "a pronoun for a person": re.compile(
        r"\b(?:nobody(?! \(\d)|somebody|everybody|anybody|whoever)\b", re.IGNORECASE
    ),
}
"""Expressions that leave open which thing is meant; a noun says it."""
_QUOTED = re.compile(r"``[^`]*``|`[^`]*`|\"[^\"\n]*\"|'[^'\n]*'")


def _tracked(*patterns: str) -> list[Path]:
    """Return the files in version control that match, or are about to be there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    return [CHECKOUT / name for name in listed.split("\0") if name and (CHECKOUT / name).is_file()]


def _docstrings(path: Path) -> Iterator[tuple[ast.AST, int, str]]:
    """Yield each module, class and function that has a docstring, with the line and the text of that."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield node, node.body[0].lineno, docstring


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the docstrings and comments of a module, or the paragraphs of any other file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
        elif (
            token.type == tokenize.STRING
            and token.string.lstrip("rR").startswith('"""')
            and not token.line[: token.start[1]].strip()
        ):
            yield token.start[0], " ".join(token.string.strip('rR"').split())


def _first_word(text: str) -> str:
    return re.split(r"[\s.,:;]", text, maxsplit=1)[0].lower()


def test_docstrings_begin_with_a_verb() -> None:
    """No function's docstring begins with an article, a pronoun, a question or a quoted name; a verb does.

    A test states its claim instead, and what a target runs is a scenario.
    """
    wrong = [
        f"{path.relative_to(CHECKOUT)}:{line}: {docstring.splitlines()[0]}"
        for path in _tracked("*.py")
        if not path.is_relative_to(CHECKOUT / "tests" / "targets")
        for node, line, docstring in _docstrings(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "__init__"
        if not node.name.startswith("test_")
        if _first_word(docstring) in _NO_VERBS or docstring.startswith("`")
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_and_classes_do_not_begin_with_a_question() -> None:
    """The docstring of a module or class names what it does or is, instead of 'who', 'what' or 'how'."""
    wrong = [
        f"{path.relative_to(CHECKOUT)}:{line}: {docstring.splitlines()[0]}"
        for path in _tracked("threadwatch/*.py")
        for node, line, docstring in _docstrings(path)
        if isinstance(node, ast.Module | ast.ClassDef) and _first_word(docstring) in _QUESTIONS
    ]
    assert not wrong, "\n".join(wrong)


def test_each_source_of_names_has_its_words() -> None:
    """The details of a thread, in ``top`` and on the page, say of each source where the name comes from."""
    script = (CHECKOUT / "threadwatch/web/static/detail.js").read_text()
    words = re.search(r"const SOURCES = \{(.*?)\};", script, re.DOTALL)
    assert words, "detail.js has no SOURCES"
    assert set(re.findall(r"^  (\w+):", words[1], re.MULTILINE)) == set(SOURCES)
    assert set(detail.SOURCES) == set(SOURCES)


def test_prose_says_which() -> None:
    """Docstrings, comments and documentation name the person or the number that they mean."""
    wrong = [
        f"{path.relative_to(CHECKOUT)}:{line}: {loose}: {found.group()!r} in {text[:200]!r}"
        for path in _tracked(
            "threadwatch/*.py", "README.md", "SECURITY.md", "docs/*.md", "manual/*.md"
        )
        for line, said in _prose(path)
        for text in [_QUOTED.sub("…", said)]
        for loose, pattern in _LOOSE.items()
        for found in pattern.finditer(text)
    ]
    assert not wrong, "\n".join(wrong)
