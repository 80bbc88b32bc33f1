"""Encodes metric families as bytes: the Prometheus text format 0.0.4 and OpenMetrics 1.0.0.

prometheus_client's own ``generate_latest`` returns the same bytes (a test compares them) but takes
five times as long per sample. Most of that time goes into escaping the same thread names again: a
name stands in a dozen samples, at each poll. Here escaped labels are remembered.

Label values may hold any character: only backslash, quote and newline have an escape. The parsers
of Prometheus 2 and 3, promtool and prometheus_client accept all others unescaped, NUL included
(tested). Lone surrogates, which UTF-8 cannot hold, are written as ``\\udcXX``.

This module also decides which format a scraper gets, and in which encoding: :func:`negotiate`,
:func:`accepts_gzip`.
"""

from __future__ import annotations

import enum
import gzip
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

_GZIP_LEVEL = 1
"""An eighth of the CPU time of the default, 9, for a quarter more bytes."""
_REMEMBERED_LABELS = 16384
"""Some MiB at most; labels beyond that are escaped anew each time."""

format_number: Callable[[float], str] = floatToGoString
"""Formats a number as Go writes it: ``+Inf``, ``1e+06``; a float in enough digits to distinguish it."""


class Format(enum.Enum):
    """A format of the metrics; the value is the Content-Type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def encode(families: Iterable[Metric], form: Format) -> bytes:
    """Return the exposition of ``families``, whose samples carry neither timestamps nor exemplars."""
    lines: list[str] = []
    for family in families:
        lines += _metadata(family, form)
        for sample in family.samples:
            labels = sample.labels
            if labels:
                text = ",".join([_label(name, value) for name, value in sorted(labels.items())])
                lines.append(f"{sample.name}{{{text}}} {format_number(sample.value)}\n")
            else:
                lines.append(f"{sample.name} {format_number(sample.value)}\n")
    if form is Format.OPENMETRICS:
        lines.append("# EOF\n")
    return "".join(lines).encode()


def _metadata(family: Metric, form: Format) -> Iterator[str]:
    name, kind = family.name, family.type
    text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
    if form is Format.OPENMETRICS:
        text = text.replace('"', r"\"")
    elif kind == "counter":
        name += "_total"
    elif kind == "info":
        name, kind = name + "_info", "gauge"
    yield f"# HELP {name} {text}\n"
    yield f"# TYPE {name} {kind}\n"
    if form is Format.OPENMETRICS and family.unit:
        yield f"# UNIT {name} {family.unit}\n"


@lru_cache(maxsize=_REMEMBERED_LABELS)
def _label(name: str, value: str) -> str:
    # Use backslashreplace before escaping: it writes a backslash, which needs escaping too.
    value = value.encode(errors="backslashreplace").decode()
    value = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{name}="{value}"'


def negotiate(accept: str | None) -> Format:
    """Return the format that an Accept header asks for (RFC 9110, section 12.5.1); never refuses.

    OpenMetrics must be asked for by its name, without a version or with 1.0.0, and with at least
    the weight of plain text. A part that cannot be parsed is ignored; if no part is left, the
    answer is plain text.
    """
    openmetrics = 0.0
    text: dict[str, float] = {}  # the most specific range that fits plain text counts
    for media, parameters, weight in _weighted(accept):
        if media == "application/openmetrics-text":
            if parameters.get("version", "1.0.0") == "1.0.0":
                openmetrics = max(openmetrics, weight)
        elif media in ("text/plain", "text/*", "*/*"):
            text[media] = max(text.get(media, 0.0), weight)
    plain = next((text[media] for media in ("text/plain", "text/*", "*/*") if media in text), 0.0)
    return Format.OPENMETRICS if openmetrics > 0 and openmetrics >= plain else Format.TEXT


def packed(body: bytes) -> bytes:
    """Return a response's body in gzip, the same for the same body."""
    return gzip.compress(body, _GZIP_LEVEL, mtime=0)


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether Accept-Encoding allows gzip, at least as much as no encoding (section 12.5.3)."""
    weights = {coding: its for coding, _, its in _weighted(accept_encoding)}
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return weight > 0 and weight >= weights.get("identity", 0.0)


def _weighted(header: str | None) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the parts of an Accept header: range, parameters, weight (0 to 1). Skip unparsable ones."""
    for part in (header or "").split(","):
        what, *rest = part.split(";")
        pairs = [parameter.partition("=") for parameter in rest]
        parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        try:
            weight = float(parameters.pop("q", "1"))
        except ValueError:
            continue
        if what.strip() and 0 <= weight <= 1:  # also false for NaN
            yield what.strip().lower(), parameters, weight
