"""Whatever targets call themselves, names come out, and they are safe to show."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from threadwatch.config.parse import parse_config
from threadwatch.config.settings import NameRule
from threadwatch.labels.alike import MANY, proposals
from threadwatch.labels.applications import without_arguments
from threadwatch.labels.discretion import without_secrets
from threadwatch.labels.groups import (
    DEFAULT_RULES,
    ProcessFacts,
    ThreadNames,
    application_name,
    choose_group,
    is_multiprocessing_child,
    is_python,
)
from threadwatch.model.keys import OTHER, UNATTRIBUTED
from threadwatch.procfs import Cgroup

ANY_TEXT = st.text(st.characters(codec=None), max_size=200)  # lone surrogates too
ARGUMENTS = st.lists(
    st.sampled_from(
        [
            "python3", "-m", "-c", "-", "--", "-u", "-W", "-X", "-um", "-mpdb", "pdb", "coverage", "run",
            "cProfile", "threadwatch", "gunicorn", "celery", "-A", "--app=", "-n", "shop:app", "manage.py",
            "/srv/__main__.py", "__main__.py", "/", ".", "", " ", ":", "uwsgi", "-w", "flask", "django",
            "--settings", "fastapi", "gunicorn: x [", "gunicorn: x []", "[celeryd: ]", "[celery beat] -A",
            "granian x", "/dev/fd/3", "--multiprocessing-fork", "from multiprocessing.spawn import x",
            "/lib64/ld.so --argv0", "ld.so", "/a b/python3 -c x", "shop.py --token x", "password=x://y:z@",
            "--password", "[1] 2: x", "(other)",
        ]
    )
    | ANY_TEXT,
    max_size=8,
).map(tuple)  # fmt: skip
PROGRAMS = st.none() | st.sampled_from(["/usr/bin/python3", "/usr/bin/uwsgi", "/", ""]) | ANY_TEXT
DEFAULT = ThreadNames(DEFAULT_RULES)
CONFIG = parse_config(
    b"groups: [{name: '{a}{comm}{user}', match: {cmdline: '(?P<a>x)?', user: .*, container: y}}]",
    "c.yml",
)


@given(ANY_TEXT)
@example("_1" * 96)
def test_a_name_is_folded_once_and_for_all(name: str) -> None:
    """Folding what has been folded changes nothing: there is no name between two series."""
    folded = DEFAULT.fold(name)
    assert DEFAULT.fold(folded) == folded


@given(ANY_TEXT)
@example(OTHER)
@example(UNATTRIBUTED)
@example("\ud800")
def test_labels_can_be_written_and_are_nobodys_but_the_targets(name: str) -> None:
    """A label is UTF-8, not empty, bounded, and none of threadwatch's own."""
    label = DEFAULT.series_name(name)
    label.encode()
    assert label
    assert len(label) <= 194
    assert label not in {OTHER, UNATTRIBUTED}


@given(st.text(max_size=20), st.integers(0, 10**9), st.integers(0, 10**9))
def test_numbers_make_no_difference(text: str, one: int, other: int) -> None:
    """Names that differ only in a number of Python's are one series."""
    for before, after in (
        ("Thread-", f" ({text})"),
        ("ThreadPoolExecutor-", "_0"),
        (f"x{text}_", ""),
    ):
        assert DEFAULT.fold(f"{before}{one}{after}") == DEFAULT.fold(f"{before}{other}{after}")


@given(ANY_TEXT.filter(lambda text: not re.search("[0-9]", text)))
def test_a_name_without_a_number_stays(name: str) -> None:
    """Built-in rules only ever take numbers out."""
    assert DEFAULT.fold(name) == name.encode("utf-8", "replace").decode()[:192]


@given(ANY_TEXT)
def test_braces_in_names_are_only_braces(name: str) -> None:
    """What a target writes in its names is never read as a template."""
    names = ThreadNames([NameRule(re.compile("(?P<all>.*)", re.DOTALL), "<{all}>")])
    assert names.fold(name) == f"<{name}>".encode("utf-8", "replace").decode()[:192]


@given(exe=PROGRAMS, cmdline=ARGUMENTS, comm=ANY_TEXT)
def test_every_process_has_an_application(
    exe: str | None, cmdline: tuple[str, ...], comm: str
) -> None:
    """Names of applications are total: short, printable, not empty, on whatever arguments."""
    name = application_name(exe=exe, cmdline=cmdline, comm=comm)
    assert 0 < len(name) <= 100
    assert name.isprintable()
    assert name == name.strip()
    is_python(exe, cmdline, comm)
    is_multiprocessing_child(cmdline)
    without_arguments(cmdline)
    without_secrets(cmdline)


@given(
    exe=PROGRAMS,
    cmdline=ARGUMENTS,
    comm=ANY_TEXT,
    user=st.none() | ANY_TEXT,
    container=st.none() | ANY_TEXT,
    python=st.booleans(),
)
def test_every_process_has_a_group_or_none(
    *,
    exe: str | None,
    cmdline: tuple[str, ...],
    comm: str,
    user: str | None,
    container: str | None,
    python: bool,
) -> None:
    """Choosing a group is total, and its name is fit for a label and a terminal."""
    chosen = choose_group(
        CONFIG,
        ProcessFacts(
            exe=exe,
            cmdline=cmdline,
            comm=comm,
            user=user,
            cgroup=Cgroup(container=container),
            apart=container is not None,
            python=python,
            published=False,
            parent_group=None,
        ),
    )
    if chosen is None:
        assert not python
    else:
        assert 0 < len(chosen[1]) <= 100
        assert chosen[1].isprintable()
        assert chosen[1] not in {OTHER, UNATTRIBUTED}


@given(
    ANY_TEXT,
    st.lists(st.integers(0, 2**32), min_size=MANY, unique=True),
    ANY_TEXT,
    st.sampled_from("dx"),
)
def test_a_proposed_rule_can_be_pasted_and_folds_what_it_says(
    before: str, numbers: list[int], after: str, form: str
) -> None:
    """Whatever names are like, the lines are a configuration, by which the names have one series."""
    names = [f"{before}{number:{form}}{after}" for number in numbers]
    for proposal in proposals({name: name for name in names}):
        config = parse_config("\n".join(proposal.lines()).encode(), "threadwatch.yml")
        fold = ThreadNames(config.default.threads.rules).fold
        folded = [name for name in names if config.default.threads.rules[0].match.fullmatch(name)]
        assert len(folded) >= proposal.names
        assert len({fold(name) for name in folded}) == 1
