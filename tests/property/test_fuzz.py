"""The fuzzer's targets on their committed corpus, on that corpus damaged, and on any bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
SEEDS = {
    name: [path.read_bytes() for path in sorted((CORPUS / name).iterdir())] for name in TARGETS
}


@st.composite
def spliced(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Seeds in which bytes have been replaced, added, taken away, or taken from another seed."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        other = draw(st.sampled_from(seeds))
        at = draw(st.integers(0, len(other)))
        new = draw(st.binary(max_size=8) | st.just(other[at : at + 40]))
        data = data[:start] + new + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    """What the fuzzer has once found, and what it starts from, breaks nothing."""
    assert SEEDS[name]
    for data in SEEDS[name]:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_any_bytes(name: str, data: st.DataObject) -> None:
    """Random bytes and damaged seeds break nothing."""
    TARGETS[name](data.draw(st.binary(max_size=400) | spliced(SEEDS[name])))
