"""What a good configuration becomes."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest

from threadwatch.config.defaults import DEFAULT_CONFIG, DEFAULT_RULES
from threadwatch.config.parse import load_config, parse_config
from threadwatch.config.settings import Config, GroupConfig, TasksConfig, describe_config
from threadwatch.errors import ConfigError
from threadwatch.publisher.layout import RETAIN_NS

FIXTURES = Path(__file__).parent.parent / "fixtures/config"
SECOND = 1_000_000_000


def parse(text: str) -> Config:
    """Return the configuration in a text."""
    return parse_config(text.encode(), "c.yml")


def group(text: str) -> GroupConfig:
    """Return the only group of a configuration."""
    (only,) = parse(text).groups
    return only


def test_the_defaults() -> None:
    """Without a file: every Python process, once a second, 200 names of folded threads each."""
    default = DEFAULT_CONFIG.default
    assert DEFAULT_CONFIG.poll_interval_ns == SECOND
    assert DEFAULT_CONFIG.groups == ()
    assert DEFAULT_CONFIG.watch_unmatched
    assert not DEFAULT_CONFIG.thread_info
    assert (default.name, dict(default.matches)) == ("{app}", {})
    assert (default.threads.cap, default.threads.per) == (200, "group")
    assert default.threads.rules == DEFAULT_RULES
    assert default.collect == frozenset()
    assert default.expire_after_ns == 15 * 60 * SECOND


def test_a_file_that_sets_nothing_is_the_defaults() -> None:
    """`{}` is equal to no file at all, apart from where it came from."""
    assert parse("{}") == DEFAULT_CONFIG
    assert parse("{}").path == "c.yml"


def test_everything_is_read() -> None:
    """Every key that can be set arrives in its field."""
    config = load_config(str(FIXTURES / "everything.yml"))
    assert config.poll_interval_ns == 2_500_000_000
    assert config.thread_info
    assert not config.watch_unmatched
    assert config.default.name == "{app}"
    assert config.default.collect == {"io"}
    assert config.default.expire_after_ns == 25 * 3600 * SECOND
    assert (config.default.threads.cap, config.default.threads.per) == (7, "process")
    assert [rule.name for rule in config.default.threads.rules] == ["top-N"]

    shop, batch, last = config.groups
    assert shop.name == "shop-{queue}-{user}"
    assert {key: pattern.pattern for key, pattern in shop.matches.items()} == {
        "cmdline": r"celery .*-Q (?P<queue>\w+)",
        "user": "^shop",
    }
    assert (shop.threads.cap, shop.threads.per) == (8, "thread")
    assert shop.collect == {"context_switches", "io"}
    assert shop.expire_after_ns == 3600 * SECOND
    assert config.default.tasks == TasksConfig(rate=5, blocked_after_ns=SECOND)
    assert shop.tasks == TasksConfig(rate=0, by="function", blocked_after_ns=SECOND)

    assert list(batch.matches) == ["exe", "comm", "systemd_unit", "container"]
    assert batch.matches["comm"].pattern == "^job"
    assert batch.threads == config.default.threads
    assert batch.collect == {"io"}
    assert batch.expire_after_ns == 25 * 3600 * SECOND

    assert last.name == "ünï-😀"
    assert last.threads == config.default.threads
    assert last.collect == frozenset()


def test_rules_of_the_group_come_first_then_the_top_levels_then_the_built_in_ones() -> None:
    """Rules add up, and what is nearer wins."""
    shop = load_config(str(FIXTURES / "everything.yml")).groups[0]
    own, top, *built_in = shop.threads.rules
    assert (own.match.pattern, own.name) == (
        "conn-(?P<pool>[a-z]+)(?P<extra>-x)?",
        "{{{pool}{extra}}}",
    )
    assert top.name == "top-N"
    assert tuple(built_in) == DEFAULT_RULES


def test_a_group_inherits_each_key_of_threads_alone() -> None:
    """A group that sets the cap keeps the top level's `per` and `fold`."""
    shop = group(
        "threads: {cap: 5, per: thread, fold: false}\n"
        "groups: [{name: shop, match: {comm: x}, threads: {cap: 6}}]\n"
    )
    assert (shop.threads.cap, shop.threads.per, shop.threads.rules) == (6, "thread", ())


def test_the_order_of_keys_does_not_matter() -> None:
    """Groups take over what the top level sets behind them."""
    assert (
        group("groups: [{name: a, match: {comm: x}}]\nexpire_after: 5s").expire_after_ns
        == 5 * SECOND
    )


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1s", SECOND),
        ("100ms", SECOND // 10),
        ("30s", 30 * SECOND),
        ("'2s'", 2 * SECOND),
        ("1s500ms", 1_500_000_000),
        ("0m20s", 20 * SECOND),
        ("000001s", SECOND),
    ],
)
def test_durations(text: str, ns: int) -> None:
    """Durations are whole numbers with units, and exact."""
    assert parse(f"poll_interval: {text}").poll_interval_ns == ns


def test_the_poll_interval_is_not_longer_than_tables_remember() -> None:
    """The longest interval is what a table keeps ended threads for."""
    assert parse(f"poll_interval: {RETAIN_NS // 1_000_000}ms").poll_interval_ns == RETAIN_NS
    with pytest.raises(ConfigError, match="should be from 100ms to 30s"):
        parse(f"poll_interval: {RETAIN_NS // 1_000_000 + 1}ms")


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "yes", "Yes", "on", "ON"])
def test_truth_in_all_spellings(text: str) -> None:
    """Both versions of YAML's truth values are understood."""
    assert parse(f"thread_info: {text}").thread_info


@pytest.mark.parametrize("text", ["1s", "^on$", "1:30", "3proxy", "0x", "2024-01-01", ".inf", "e5"])
def test_text_that_is_only_text_needs_no_quotes(text: str) -> None:
    """Only what is a number, a truth value or nothing in YAML has to be quoted."""
    assert group(f"groups: [{{name: a, match: {{comm: {text}}}}}]").matches["comm"].pattern == text


def test_a_byte_order_mark_and_windows_line_ends_are_taken() -> None:
    """A file that was saved on Windows is a file like any other."""
    config = parse_config(b"\xef\xbb\xbfpoll_interval: 2s\r\nthread_info: true\r\n", "c.yml")
    assert config.poll_interval_ns == 2 * SECOND
    assert config.thread_info


def test_a_pattern_over_several_lines() -> None:
    """A verbose pattern may end with a line break, which means nothing in it."""
    shop = group("groups:\n- name: a\n  match:\n    comm: |\n      (?x) shop # the shop\n")
    assert shop.matches["comm"].search("shop")


def test_a_pattern_that_needs_a_deep_stack_is_an_error() -> None:
    """What re gives up on is answered like any bad pattern."""
    depth = 490
    text = f"groups: [{{name: a, match: {{comm: '{'(' * depth}{')' * depth}'}}}}]"
    limit = sys.getrecursionlimit()
    frame, used = sys._getframe(), 0
    while frame.f_back:
        frame, used = frame.f_back, used + 1
    sys.setrecursionlimit(used + 200)
    try:
        with pytest.raises(ConfigError, match="make it simpler"):
            parse(text)
    finally:
        sys.setrecursionlimit(limit)


def test_a_configuration_cannot_be_changed() -> None:
    """Configurations are shared by threads: nothing in them can be set or changed."""
    config = parse("groups: [{name: a, match: {comm: x}}]")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.thread_info = True  # type: ignore[misc]  # what is tested
    with pytest.raises(TypeError):
        config.groups[0].matches["exe"] = re.compile("x")  # type: ignore[index]  # what is tested


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (DEFAULT_CONFIG, "defaults: ok, no groups, poll every 1s"),
        (parse("poll_interval: 100ms"), "c.yml: ok, no groups, poll every 100ms"),
        (
            parse("groups: [{name: a, match: {comm: x}}]\nunmatched: ignore"),
            "c.yml: ok, 1 group, poll every 1s, other processes are ignored",
        ),
        (
            parse("groups: [{name: a, match: {comm: x}}, {name: b, match: {comm: x}}]"),
            "c.yml: ok, 2 groups, poll every 1s",
        ),
    ],
)
def test_a_summary_in_one_line(config: Config, line: str) -> None:
    """A good file is answered with how many groups it has and how often it polls."""
    assert describe_config(config) == line
