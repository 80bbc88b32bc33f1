"""Any JSON is a View or one error, and what was a View is the same again."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests import views
from threadwatch.errors import Malformed
from threadwatch.model.view import View
from threadwatch.words.from_json import parse_view
from threadwatch.words.to_json import view_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
GENUINE = json.loads(json.dumps(view_json(views.sample())))


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [place, *(p for key, inner in below for p in _places(inner, (*place, key)))]


PLACES = _places(GENUINE)[1:]


def _parsed(document: Any) -> View | None:
    try:
        return parse_view(json.dumps(document).encode())
    except Malformed:
        return None


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_view_or_malformed(body: bytes) -> None:
    """Nothing but Malformed is raised, whatever comes."""
    with suppress(Malformed):
        parse_view(body)


@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON), max_size=3))
def test_a_view_that_was_tampered_with(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    """A view in which values were replaced by any others is one, or malformed; one is the same again."""
    document = copy.deepcopy(GENUINE)
    for (*path, last), value in changes:
        holder = document
        try:
            for key in path:
                holder = holder[key]
            holder[last]  # the place may have gone by a change before
        except (KeyError, IndexError, TypeError):
            continue
        if isinstance(holder, (dict, list)):
            holder[last] = value
    view = _parsed(document)
    if view is not None:
        again = json.dumps(view_json(view)).encode()
        assert json.dumps(view_json(parse_view(again))).encode() == again
