"""Any bytes are a configuration or one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from threadwatch.config.defaults import DEFAULT_RULES
from threadwatch.config.parse import SECTIONS, parse_config
from threadwatch.config.settings import Config, describe_config
from threadwatch.config.value import format_duration
from threadwatch.errors import ConfigError

EVERYTHING = (Path(__file__).parent.parent / "fixtures/config/everything.yml").read_bytes()
WORDS = sorted({key for keys in SECTIONS.values() for key in keys})
SCALARS = st.one_of(
    st.sampled_from(["1s", "30s", "group", "watch", "io", "x", "{app}", "(?P<a>x)", "{a}", ""]),
    st.text(max_size=8),
    st.booleans(),
    st.integers(-10, 200_000),
    st.none(),
    st.floats(),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=5),
    ),
    max_leaves=12,
)
PIECES = st.lists(
    st.sampled_from(
        [
            *(f"{word}: " for word in WORDS),
            *"-?:,[]{}#&*!|>'\"%@` \n\t~<.\\\r\x85\u2028\ufeff0",
            "\n  ",
            "\n    - ",
            "---\n",
            "...\n",
            "%YAML 1.1\n",
            "%TAG ! tag:x,2000:\n",
            "\\UFFFFFFFF",
            "\\ud800",
            "!!",
            "!<",
            "<<: ",
            "1s",
            "x",
        ]
    ),
    max_size=30,
).map("".join)


def check(data: bytes) -> Config | None:
    """Return the configuration, or None after an error that is one line about this file."""
    config, problem = None, None
    try:
        config = parse_config(data, "c.yml")
    except ConfigError as error:
        problem = error
    if config is None:
        assert problem is not None
        assert str(problem).startswith("c.yml:")
        assert str(problem).isprintable()
        assert problem.message
        lines = data.count(b"\n") + data.count(b"\r") + 1
        assert problem.line is None or 1 <= problem.line <= lines
        return None
    assert describe_config(config).startswith("c.yml: ok, ")
    return config


@given(st.binary(max_size=300))
@example(b"\xff\xfe{}")
@example(b"\x00")
def test_any_bytes_are_a_configuration_or_one_error(data: bytes) -> None:
    """parse_config is total over bytes."""
    check(data)


@given(PIECES)
@example('"\\UFFFFFFFF": 1')
@example("%YAML " + "9" * 5000 + ".1\n--- {}")
@example("? !!set {a}\n: &x *x")
def test_anything_that_looks_like_yaml_is_a_configuration_or_one_error(text: str) -> None:
    """parse_config is total over what YAML is made of."""
    check(text.encode())


@given(DOCUMENTS)
def test_any_document_is_a_configuration_or_one_error(document: object) -> None:
    """parse_config is total over documents of any shape under any keys."""
    check(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "replace"))


@given(st.data())
def test_a_good_file_with_something_else_in_it_is_a_configuration_or_one_error(
    data: st.DataObject,
) -> None:
    """Near to a good file, everything is answered as well as far from it."""
    start = data.draw(st.integers(0, len(EVERYTHING)))
    end = min(len(EVERYTHING), start + data.draw(st.integers(0, 20)))
    check(EVERYTHING[:start] + data.draw(st.binary(max_size=5)) + EVERYTHING[end:])


@given(
    interval=st.integers(100, 30_000),
    expire=st.integers(1000, 10**9),
    cap=st.integers(1, 100_000),
    per=st.sampled_from(["group", "process", "thread"]),
    fold=st.booleans(),
    thread_info=st.booleans(),
    watch=st.booleans(),
    collect=st.sets(st.sampled_from(["io", "context_switches"])),
)
def test_what_is_written_is_what_is_read(
    *,
    interval: int,
    expire: int,
    cap: int,
    per: str,
    fold: bool,
    thread_info: bool,
    watch: bool,
    collect: set[str],
) -> None:
    """All values that are allowed go from a file into the configuration as they are."""
    document = {
        "poll_interval": format_duration(interval * 1_000_000),
        "expire_after": format_duration(expire * 1_000_000),
        "thread_info": thread_info,
        "unmatched": "watch" if watch else "ignore",
        "collect": sorted(collect),
        "threads": {"cap": cap, "per": per, "fold": fold},
    }
    config = check(yaml.safe_dump(document).encode())
    assert config is not None
    assert config.poll_interval_ns == interval * 1_000_000
    assert config.default.expire_after_ns == expire * 1_000_000
    assert (config.thread_info, config.watch_unmatched) == (thread_info, watch)
    assert config.default.collect == collect
    assert (config.default.threads.cap, config.default.threads.per) == (cap, per)
    assert config.default.threads.rules == (DEFAULT_RULES if fold else ())
