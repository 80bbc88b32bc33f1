"""Names that differ only in numbers and hexadecimal strings: which are alike, how many, and their rule."""

from __future__ import annotations

import re
import uuid

import pytest

from threadwatch.labels.alike import MANY, Alike, proposals


def _many(form: str, parts: list[str]) -> list[str]:
    return [form.format(part) for part in parts]


SERIAL = [str(number) for number in range(7, 7 + MANY)]
RANDOM = [f"{number * 0x9E3779B1 % 2**32:08x}" for number in range(1, 1 + MANY)]
UUIDS = [str(uuid.uuid5(uuid.NAMESPACE_DNS, str(number))) for number in range(MANY)]


@pytest.mark.parametrize(
    ("names", "match", "name"),
    [
        (_many("conn-{}", RANDOM), "conn-[0-9a-f]{8,}", "conn-N"),
        (_many("conn-{}", [*RANDOM[1:], "12345678"]), "conn-[0-9a-f]{8,}", "conn-N"),
        (_many("CONN-{}", [r.upper() for r in RANDOM]), "CONN-[0-9A-F]{8,}", "CONN-N"),
        (_many("shard{}", SERIAL), "shard[0-9]+", "shardN"),
        (_many("shop-2 (job {})", SERIAL), r"shop-2 \(job [0-9]+\)", "shop-2 (job N)"),
        (_many("at 0x{}", RANDOM), "at 0x[0-9a-f]+", "at N"),
        (_many("session-{}-reader", UUIDS), "session-[0-9a-f-]{36,}-reader", "session-N-reader"),
        (_many("{{{}}}", SERIAL), r"\{[0-9]+\}", "{{N}}"),
        (_many("it's\n{}", SERIAL), r"it's\W[0-9]+", "it's?N"),
        ([f"{a}:{b}" for a, b in zip(SERIAL, RANDOM, strict=True)], "[0-9]+:[0-9a-f]{8,}", "N:N"),
    ],
)
def test_ten_names_that_are_alike_have_a_rule(names: list[str], match: str, name: str) -> None:
    """The rule keeps what all have in common, and matches each name whole; nine names have none."""
    (found,) = proposals({one: one for one in names})
    assert (found.names, found.match, found.name) == (MANY, match, name)
    assert all(re.fullmatch(match, one) for one in names)
    assert set(found.examples) <= set(names)
    assert proposals({one: one for one in names[1:]}) == ()


@pytest.mark.parametrize(
    "names",
    [
        ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"],
        [f"req-{c}X{c}kz" for c in "abcdefghij"],
        [f"{word}-1" for word in ("face", "feed", "dead", "beef", "cafe", "bead", "fade", "ace")],
    ],
)
def test_names_that_differ_in_words_are_not_alike(names: list[str]) -> None:
    """Letters alone are taken for words, and names that have a number in common differ in the rest."""
    alike = Alike()
    for name in [*names, *map(str.upper, names)]:
        alike.add(name)
    assert alike.foldable == 0
    assert proposals({name: name for name in names}) == ()


def test_names_that_are_folded_already_are_not_many() -> None:
    """Threads whose names differ and whose series is one need no rule."""
    assert proposals({f"conn-{number}": "conn-N" for number in range(100)}) == ()


def test_the_rule_that_folds_most_comes_first() -> None:
    """The kinds of names are in the order of how many names they have."""
    few, many = _many("a-{}", SERIAL), _many("b-{}", [*SERIAL, "100"])
    found = proposals({name: name for name in (*few, *many)})
    assert [(one.name, one.names) for one in found] == [("b-N", MANY + 1), ("a-N", MANY)]


def test_names_are_counted_as_they_come_and_go() -> None:
    """From the tenth of a kind on, all of the kind count; a name that is there twice counts once."""
    alike = Alike()
    counts = []
    for name in _many("conn-{}", RANDOM):
        alike.add(name)
        alike.add(name)
        alike.add("MainThread")
        counts.append(alike.foldable)
    assert counts == [0] * (MANY - 1) + [MANY]
    alike.add("conn-7")
    assert alike.foldable == MANY + 1
    alike.remove("conn-7")
    for name in _many("conn-{}", RANDOM):
        alike.remove(name)
    assert alike.foldable == MANY
    alike.remove(f"conn-{RANDOM[0]}")
    assert alike.foldable == 0
    for name in _many("conn-{}", RANDOM[1:]):
        alike.remove(name)
    assert alike.foldable == 0


def test_a_name_too_long_for_a_template_is_cut() -> None:
    """The configuration takes templates of at most 100 characters, braces counted twice."""
    (found,) = proposals({f"{'{' * 20}{number}{'x' * 100}": str(number) for number in range(MANY)})
    assert found.name == "{{" * 20 + "N" + "x" * 59
    assert len(found.name) == 100
