"""Turns the styles of spans into terminal colours, or into attributes without colours.

The terminal's own foreground and background are kept, so that light and dark terminals look as
their users like. The colours of states are of middling brightness, visible on either.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rich.segment import Segment
from rich.style import Style

from threadwatch.model.states import STATES
from threadwatch.top.bars import BUSY
from threadwatch.top.columns import Span

STATE_COLORS: Mapping[str, str] = MappingProxyType({s.name: s.top.colour for s in STATES})
"""The hues are those of the status page: of Okabe and Ito's palette, told apart by the color-blind."""
_INK = "#101418"
_PAPER = "#ffffff"
_ACCENT = "#2b88c8"
_CURSOR = Style(color=_PAPER, bgcolor="#1d4f85", dim=False)
_CURSOR_PLAIN = Style(reverse=True, dim=False)

_PLAIN: Mapping[str, Style] = MappingProxyType(
    {
        "": Style(),
        "dim": Style(dim=True),
        "title": Style(bold=True),
        "head": Style(underline=True, dim=True),
        "head-sorted": Style(underline=True, bold=True),
        "group": Style(bold=True),
        "process": Style(bold=True),
        "thread": Style(),
        "task": Style(dim=True),
        "comm": Style(dim=True),
        "figure": Style(),
        "sum": Style(bold=True),
        "key": Style(bold=True),
        "filter": Style(bold=True),
        "paused": Style(reverse=True, bold=True),
        "alarm": Style(reverse=True),
        "warning": Style(bold=True),
        **{
            f"{kind}-{state}": Style()
            for kind in ("state", "bar", "chart")
            for state in STATE_COLORS
        },
    }
)


def _colored() -> Mapping[str, Style]:
    styles = dict(_PLAIN)
    styles.update(
        {
            "head-sorted": Style(underline=True, bold=True, color=_ACCENT),
            "group": Style(bold=True, color=_ACCENT),
            "key": Style(bold=True, color=_ACCENT),
            "filter": Style(bold=True, color=_ACCENT),
            "paused": Style(bold=True, color=_PAPER, bgcolor=STATE_COLORS["running"]),
            "alarm": Style(bold=True, color=_PAPER, bgcolor=STATE_COLORS["gil"]),
            "warning": Style(color=STATE_COLORS["gil"]),
        }
    )
    for state, color in STATE_COLORS.items():
        quiet = state not in BUSY
        styles[f"state-{state}"] = Style(color=color)
        styles[f"bar-{state}"] = (
            Style(color=color)
            if quiet
            else Style(color=_INK if _is_light(color) else _PAPER, bgcolor=color)
        )
        styles[f"chart-{state}"] = styles[f"bar-{state}"]
    return MappingProxyType(styles)


def _is_light(color: str) -> bool:
    """Return whether a letter on this colour has to be dark."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return 0.299 * red + 0.587 * green + 0.114 * blue > 160  # luma (ITU-R BT.601), 0 to 255


_COLORED = _colored()


class Look:
    """Turns spans into segments."""

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors
        self._styles = _COLORED if colors else _PLAIN
        self._cursor = _CURSOR if colors else _CURSOR_PLAIN

    def segments(self, line: list[Span], *, cursor: bool) -> list[Segment]:
        """Return one line; ``cursor``: the cursor is on it."""
        found = []
        for text, name in line:
            style = self._styles[name]
            if self._colors and name.startswith(("bar-", "chart-")):
                if style.bgcolor is not None:
                    # A block needs its letter only once; its colour shows the rest.
                    text = text[0] + " " * (len(text) - 1)  # noqa: PLW2901  # the same text, thinned
            elif cursor:
                style = style.without_color + self._cursor
            found.append(Segment(text, style))
        return found
