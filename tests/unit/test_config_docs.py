"""What the documentation and the example say about the configuration is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from threadwatch.config.defaults import DEFAULT_CONFIG
from threadwatch.config.parse import GROUP_FIELDS, SECTIONS, parse_config
from threadwatch.config.settings import describe_config
from threadwatch.errors import ConfigError
from threadwatch.labels.applications import application_name
from threadwatch.labels.groups import DEFAULT_RULES, ThreadNames

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = (CHECKOUT / "config/threadwatch.yml").read_text("utf-8")
DOCS = (CHECKOUT / "docs/configuration.md").read_text("utf-8")
UNCOMMENTED = re.sub(r"(?m)^( *)# ?(?!#)", r"\1", EXAMPLE)
KEYS = sorted({key for keys in SECTIONS.values() for key in keys})


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, with the codes in each cell."""
    section = DOCS.partition(f"# {heading}\n")[2]
    rows = re.search(r"(?m)^\|[- |]+\|\n((?:\|.*\n)+)", section)
    assert rows is not None
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows[1].splitlines()]


def codes(cell: str) -> list[str]:
    """Return the pieces of code in a table's cell."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_in_the_docs_and_in_the_example(key: str) -> None:
    """No key can be added without a word about it."""
    assert re.search(rf"(?m)^\| `{key}` \|", DOCS)
    assert re.search(rf"(?m)^[ #-]*{key}:", EXAMPLE)


def test_every_key_that_the_docs_have_is_a_key() -> None:
    """The tables of keys have no more than there is."""
    assert sorted(set(re.findall(r"(?m)^\| `([a-z_]+)` \|", DOCS))) == KEYS


@pytest.mark.parametrize("field", GROUP_FIELDS)
def test_every_field_is_in_the_docs(field: str) -> None:
    """The fields of a group's name stand in their table."""
    assert f"\n| `{{{field}}}` |" in DOCS


def test_the_example_is_valid_and_shows_the_defaults() -> None:
    """The example, copied as it is, changes nothing."""
    assert parse_config(EXAMPLE.encode(), "threadwatch.yml") == DEFAULT_CONFIG


def test_what_the_example_has_in_comments_is_valid_too() -> None:
    """With the one-# lines uncommented, the example has every key, and is good."""
    text = re.sub(r"(?m)^( *)(rules|groups): \[\]$", r"\1\2:", UNCOMMENTED)
    config = parse_config(text.encode(), "threadwatch.yml")
    assert len(config.groups) == 2
    assert {key for group in config.groups for key in group.matches} == set(
        SECTIONS["groups[].match"]
    )
    assert config.default.threads.rules[0].name == "conn-{pool}-N"


@pytest.mark.parametrize("text", re.findall(r"(?s)```yaml\n(.*?)```", DOCS))
def test_examples_in_the_docs_are_valid(text: str) -> None:
    """The examples in the docs are configurations that work, with the answers that stand there."""
    config = parse_config(text.encode(), "threadwatch.yml")
    assert f"\n{describe_config(config)}\n" in DOCS


def test_the_mistake_in_the_docs_is_answered_as_there() -> None:
    """The error that the docs show is the one that comes."""
    with pytest.raises(ConfigError) as caught:
        parse_config(b"\n\npoll_intervall: 1s\n", "threadwatch.yml")
    assert f"\n{caught.value}\n" in DOCS


def test_built_in_rules_do_what_the_docs_say() -> None:
    """Each row of the table of built-in rules is true, and each rule has a row."""
    used = set()
    names = ThreadNames(DEFAULT_RULES)
    for before, after, _ in table("Built-in rules"):
        for name, folded in zip(codes(before), codes(after), strict=True):
            assert names.fold(name) == folded
            used.add(
                next(rule.match.pattern for rule in DEFAULT_RULES if rule.match.fullmatch(name))
            )
    assert used == {rule.match.pattern for rule in DEFAULT_RULES}


def test_applications_are_called_what_the_docs_say() -> None:
    """Each row of the table of applications' names is true."""
    rows = [
        (codes(command), codes(name), "title" in command)
        for command, name in table("The application's name")
    ]
    for texts, names, is_title in rows:
        for index, text in enumerate(texts):
            # a row has one name for all of its command lines, or one for each
            expected = names[index] if len(names) == len(texts) else names[0]
            arguments = (text,) if is_title else tuple(text.split())
            exe = "/usr/bin/uwsgi" if text.startswith("uwsgi") else "/usr/bin/python3.12"
            assert application_name(exe=exe, cmdline=arguments, comm="comm") == expected, text
    assert sum(len(texts) for texts, _, _ in rows) > 20
