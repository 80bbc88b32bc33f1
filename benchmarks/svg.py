"""A plot as SVG: panels side by side, each with lines on logarithmic axes. Text in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

WIDTH, HEIGHT = 470, 330
"""Of one panel, in pixels."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 112, 36, 46
_COLOURS = ("#0b6e99", "#b5482e", "#5b7f2b", "#7a5195", "#a07800", "#5f6b73")
_LABEL_DISTANCE = 13.0

_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#24292f}"
    ".title{font-weight:600;font-size:12px}"
    ".grid{stroke:#d8dee4;stroke-width:1}"
    ".axis{stroke:#57606a;stroke-width:1}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one program; y in milliseconds."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. x may be 0: it is shown left of the smallest positive decade."""

    title: str
    x_label: str
    lines: tuple[Line, ...]


def plot(panels: Sequence[Panel], y_label: str) -> str:
    """Return the whole file."""
    body = [_panel(panel, number * WIDTH, number, y_label) for number, panel in enumerate(panels)]
    width = WIDTH * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
        f'width="{width}" height="{HEIGHT}" role="img">\n'
        f"<title>{escape('; '.join(panel.title for panel in panels))}</title>\n"
        f"<style>{_STYLE}</style>\n"
        f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>\n' + "".join(body) + "</svg>\n"
    )


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic scale from a power of ten on, between two pixels."""

    low: int
    high: float
    """Decimal logarithms of the ends."""
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value; what is smaller than the scale, 0 too, is at its start."""
        if value <= 0:
            return self.start
        part = (log10(value) - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(max(part, 0), 1)


def axis(values: Sequence[float], start: float, end: float) -> Axis:
    """Return a scale that has all values in it; with a 0 among them, a decade more at its start."""
    positive = [value for value in values if value > 0] or [1.0]
    low, top = floor(log10(min(positive))), max(positive)
    decade = floor(log10(top))
    high = next(decade + log10(step) for step in (1, 3, 10) if step * 10.0**decade >= top)
    if len(positive) < len(values):
        low -= 1
    return Axis(low, max(high, low + 1), start, end)


def spread(places: Sequence[float], distance: float) -> list[float]:
    """Return the same places, moved down until each is ``distance`` below the one above."""
    moved = list(places)
    lowest = float("-inf")
    for index in sorted(range(len(places)), key=places.__getitem__):
        lowest = moved[index] = max(places[index], lowest + distance)
    return moved


def _panel(panel: Panel, left: int, number: int, y_label: str) -> str:
    xs = [x for line in panel.lines for x, _ in line.points]
    ys = [y for line in panel.lines for _, y in line.points]
    x_axis = axis(xs, left + _LEFT, left + WIDTH - _RIGHT)
    y_axis = axis(ys, HEIGHT - _BOTTOM, _TOP)
    parts = [_text(left + _LEFT, 20, panel.title, "start", "title")]
    parts += _grid(x_axis, y_axis, has_zero=0 in xs)
    parts.append(_text((x_axis.start + x_axis.end) / 2, HEIGHT - 10, panel.x_label, "middle"))
    if number == 0:
        middle = (y_axis.start + y_axis.end) / 2
        turned = f' transform="rotate(-90 {left + 14} {middle:.0f})"'
        parts.append(_text(left + 14, middle, y_label, "middle", extra=turned))
    labels = spread([y_axis.at(line.points[-1][1]) for line in panel.lines], _LABEL_DISTANCE)
    for index, (line, label) in enumerate(zip(panel.lines, labels, strict=True)):
        colour = _COLOURS[index % len(_COLOURS)]
        path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in line.points)
        width = 2.5 if index == 0 else 1.5
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>\n'
        )
        for x, y in line.points:
            said = escape(f"{line.name}: {y:,.2f} ms at {x:,.0f}")
            parts.append(
                f'<circle cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="3" fill="{colour}">'
                f"<title>{said}</title></circle>\n"
            )
        fill = f' style="fill:{colour}"'
        parts.append(
            _text(x_axis.end + 8, label + 4, line.name.partition(",")[0], "start", extra=fill)
        )
    return "".join(parts)


def _grid(x_axis: Axis, y_axis: Axis, *, has_zero: bool) -> list[str]:
    parts = []
    for power in range(y_axis.low, floor(y_axis.high) + 1):
        y = y_axis.at(10.0**power)
        parts.append(_line(x_axis.start, y, x_axis.end, y))
        parts.append(_text(x_axis.start - 6, y + 4, f"{10.0**power:,g}", "end"))
    for power in range(x_axis.low, floor(x_axis.high) + 1):
        x = x_axis.at(10.0**power)
        text = "0" if has_zero and power == x_axis.low else f"{10**power:,}"
        parts.append(_line(x, y_axis.start, x, y_axis.end))
        parts.append(_text(x, y_axis.start + 16, text, "middle"))
    parts.append(
        f'<polyline class="axis" fill="none" points="{x_axis.start},{y_axis.end} '
        f'{x_axis.start},{y_axis.start} {x_axis.end},{y_axis.start}"/>\n'
    )
    return parts


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>\n'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "", extra: str = "") -> str:
    css = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}{extra}>{escape(text)}</text>\n'
    )
