"""Reads the values of JSON objects by key: each is of the kind that is wanted, or an error names its key."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from threadwatch.errors import Malformed
from threadwatch.model.states import NAMES

_MOST: Final = 1 << 63
"""Every number of a daemon is smaller."""

_T = TypeVar("_T")


class JsonObject:
    """A JSON object and its place in a view. Its methods return a key's value, or raise Malformed."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(place, "an object", value)
        self._values: dict[str, Any] = value
        self._prefix = f"{place}." if place else ""

    def _get(self, key: str, wanted: str, fits: Callable[[Any], bool]) -> Any:
        try:
            value = self._values[key]
        except KeyError:
            raise Malformed("view", f"{self._prefix}{key} is missing") from None
        if not fits(value):
            raise _wrong(self._prefix + key, wanted, value)
        return value

    def is_null(self, key: str) -> bool:
        """Return whether the value of a key is null."""
        return self._get(key, "a value or null", lambda _: True) is None

    def has(self, key: str) -> bool:
        """Return whether there is a value other than null: older daemons do not have every key."""
        return self._values.get(key) is not None

    def text(self, key: str) -> str:
        """Return a string."""
        return str(self._get(key, "a text", _is_text))

    def word(self, key: str, words: tuple[_T, ...]) -> _T:
        """Return a string that is one of these words."""
        value: _T = self._get(
            key, f"one of {', '.join(map(str, words))}", lambda v: _is_text(v) and v in words
        )
        return value

    def whole(self, key: str) -> int:
        """Return a whole number."""
        return int(self._get(key, "a whole number", _is_whole))

    def flag(self, key: str) -> bool:
        """Return true or false."""
        return bool(self._get(key, "true or false", lambda v: isinstance(v, bool)))

    def number(self, key: str) -> float:
        """Return a number."""
        return float(self._get(key, "a number", _is_number))

    def ns(self, key: str) -> int:
        """Return a time in ns, from seconds."""
        return round(self.number(key) * 1e9)

    def ratio(self, key: str) -> float | None:
        """Return a share, from percent; None: null."""
        value = self._get(key, "a number or null", lambda v: v is None or _is_number(v))
        return None if value is None else value / 100

    def shares(self, key: str) -> Mapping[str, float] | None:
        """Return shares by state, from percent; None: null."""
        value = self._get(
            key,
            "percents by state, or null",
            lambda v: (
                v is None
                or (isinstance(v, dict) and all(k in NAMES and _is_number(n) for k, n in v.items()))
            ),
        )
        return None if value is None else {state: n / 100 for state, n in value.items()}

    def array(self, key: str, each: Callable[[JsonObject], _T]) -> tuple[_T, ...]:
        """Return an array of objects, each as ``each`` parses it."""
        values = self._get(key, "an array", lambda v: isinstance(v, list))
        return tuple(
            each(JsonObject(value, f"{self._prefix}{key}[{number}]"))
            for number, value in enumerate(values)
        )

    def object(self, key: str) -> JsonObject:
        """Return an object."""
        return JsonObject(
            self._get(key, "an object", lambda v: isinstance(v, dict)), self._prefix + key
        )

    def texts(self, key: str) -> tuple[str, ...]:
        """Return an array of strings."""
        return tuple(
            self._get(
                key, "an array of texts", lambda v: isinstance(v, list) and all(map(_is_text, v))
            )
        )

    def wholes(self, key: str) -> tuple[int, ...]:
        """Return an array of whole numbers."""
        return tuple(
            self._get(
                key,
                "an array of whole numbers",
                lambda v: isinstance(v, list) and all(map(_is_whole, v)),
            )
        )

    def three(self, key: str) -> tuple[float, float, float]:
        """Return an array of three numbers."""
        one, two, three = self._get(
            key,
            "an array of three numbers",
            lambda v: isinstance(v, list) and len(v) == 3 and all(map(_is_number, v)),
        )
        return float(one), float(two), float(three)

    def version(self, key: str) -> tuple[int, int, int]:
        """Return a version such as ``3.12.1``."""

        def fits(value: Any) -> bool:
            parts = value.split(".") if isinstance(value, str) else []
            return len(parts) == 3 and all(
                part.isascii() and part.isdecimal() and len(part) < 10 for part in parts
            )

        major, minor, micro = map(int, self._get(key, "a version like 3.12.1", fits).split("."))
        return major, minor, micro


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_MOST < value < _MOST


def _is_number(value: object) -> bool:
    return _is_whole(value) or (
        isinstance(value, float) and math.isfinite(value) and abs(value) < _MOST
    )


def _wrong(place: str, wanted: str, value: object) -> Malformed:
    found = repr(value)
    if len(found) > 60:
        found = found[:60] + "…"
    return Malformed("view", f"{place or 'it'} should be {wanted}, not {found}")
