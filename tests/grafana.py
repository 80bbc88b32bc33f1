"""What Grafana does with a dashboard, as far as that goes without one: variables, and its schema.

The schema is that of grafana-foundation-sdk, whose classes are generated from Grafana's own. Our dashboards
are not made with it, so that it can judge them.
"""

from __future__ import annotations

import enum
import json
import re
import types
import typing
import urllib.parse
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed import CHECKOUT

with warnings.catch_warnings():
    # Grafana recommends its newer schema, which older Grafanas cannot import
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.cog import encoder, plugins
    from grafana_foundation_sdk.models import dashboard as schema

    plugins.register_default_plugins()

DIRECTORY = CHECKOUT / "config" / "grafana" / "dashboards"
FILES = sorted(DIRECTORY.glob("*.json"))

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::(\w+))?\})")
_LABEL = re.compile(r"\{\{(\w+)\}\}")
_IN_LINKS = re.compile(r"\$\{(?P<path>[\w.]+)(?::(?P<form>\w+))?\}")
_LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")

Json = dict[str, Any]


def load(path: Path) -> Json:
    """Return a dashboard."""
    found: Json = json.loads(path.read_text(encoding="utf-8"))
    return found


def panels(dashboard: Json) -> list[Json]:
    """Return all panels that show something: without the headings, with what is inside of them."""
    return [panel for panel in opened(dashboard["panels"]) if panel["type"] != "row"]


def opened(panels: list[Json]) -> list[Json]:
    """Return the panels as they are when each row is opened: what is below a row moves down."""
    placed: list[Json] = []
    down = 0
    for panel in panels:
        place = panel["gridPos"]
        inside = panel.get("panels", [])
        row = {"panels": [], "collapsed": False} if inside else {}
        placed.append({**panel, **row, "gridPos": {**place, "y": place["y"] + down}})
        for nested in inside:
            at = nested["gridPos"]
            placed.append({**nested, "gridPos": {**at, "y": at["y"] + down}})
        bottom = max((one["gridPos"]["y"] + one["gridPos"]["h"] for one in inside), default=None)
        down += 0 if bottom is None else bottom - (place["y"] + place["h"])
    return placed


def events(dashboard: Json) -> list[Json]:
    """Return the events that are marked in graphs."""
    found: list[Json] = dashboard["annotations"]["list"]
    return found


@dataclass(frozen=True, slots=True)
class Expression:
    """One query of a panel."""

    dashboard: str
    """The file's name, without .json."""
    panel: str
    text: str
    instant: bool
    letter: str
    legend: str

    def __str__(self) -> str:
        return f"{self.dashboard}-{self.panel}-{self.letter}".replace(" ", "_")


def expressions() -> list[Expression]:
    """Return every query of every panel of every dashboard."""
    return [
        Expression(
            path.stem,
            panel["title"],
            query["expr"],
            query["instant"],
            query["refId"],
            query["legendFormat"],
        )
        for path in FILES
        for panel in panels(load(path))
        for query in panel["targets"]
    ]


def queries_of_variables(dashboard: Json) -> dict[str, tuple[str, str]]:
    """Return the selector and the wanted label of each variable that asks Prometheus, in their order."""
    found = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = _LABEL_VALUES.fullmatch(variable["query"])
            assert match, variable["query"]
            found[variable["name"]] = (match["selector"], match["label"])
    return found


def interpolate(text: str, dashboard: Json, values: Mapping[str, str | list[str]]) -> str:
    """Return the text as Grafana's Prometheus source sends it: with variables put in, and escaped.

    A variable that can have several values is escaped for a regular expression, any other for a string.
    ``$__all`` stands for all of them. Source: interpolateQueryExpr and prometheusSpecialRegexEscape in
    packages/grafana-prometheus.
    """
    known = {variable["name"]: variable for variable in dashboard["templating"]["list"]}

    def put(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        value = values[name]
        if name.startswith("__"):
            assert isinstance(value, str)
            return value
        variable = known[name]
        if value == "$__all":
            return str(variable["allValue"])
        if not variable["multi"] and not variable["includeAll"]:
            assert isinstance(value, str)
            return value.replace("\\", "\\\\").replace("'", "\\\\'")
        several = [_for_regex(one) for one in ([value] if isinstance(value, str) else value)]
        return several[0] if len(several) == 1 else f"({'|'.join(several)})"

    return _VARIABLE.sub(put, text)


def _for_regex(value: str) -> str:
    return re.sub(r"[$^*{}\[\]+?.()|]", r"\\\\\g<0>", value.replace("\\", "\\\\\\\\"))


@dataclass(frozen=True, slots=True)
class Followed:
    """Where a click leads to."""

    title: str
    url: str
    """The page of a host; empty: it is a dashboard."""
    uid: str
    """That of the dashboard."""
    variables: frozenset[tuple[str, str]]


def followed(
    panel: Json, legend: str, labels: Mapping[str, str], values: Mapping[str, str]
) -> list[Followed]:
    """Return where the links of a series lead to; of a row of a table, those of all of its columns.

    ``legend``: that of the query, with labels in double braces; ``values``: the dashboard's own variables.
    What is not there stays in the link as it is.
    """
    known = {"__url_time_range": "from=now-1h&to=now", **values}

    def put(match: re.Match[str]) -> str:
        path, form = match["path"], match["form"]
        name = path.removeprefix("__data.fields.").removeprefix("__field.labels.")
        found = (labels if name != path else known).get(name)
        if found is None:
            return match[0]
        if form == "queryparam":
            return f"var-{name}={urllib.parse.quote(found, safe='')}"
        return urllib.parse.quote(found, safe="") if form == "percentencode" else found

    made = []
    for link in _links(panel, _LABEL.sub(lambda match: labels.get(match[1], ""), legend), labels):
        title, url = (_IN_LINKS.sub(put, link[part]) for part in ("title", "url"))
        split = urllib.parse.urlsplit(url)
        query = urllib.parse.parse_qs(split.query, strict_parsing=bool(split.query))
        variables = frozenset(
            (name.removeprefix("var-"), value)
            for name, (value,) in query.items()
            if name.startswith("var-")
        )
        page = url if split.scheme else ""
        made.append(
            Followed(title, page, "" if page else split.path.removeprefix("/d/"), variables)
        )
    return made


def _links(panel: Json, name: str, labels: Mapping[str, str]) -> list[Json]:
    """Return the links of a series of that name, or of all columns of a row."""
    config = panel["fieldConfig"]
    given = {
        override["matcher"]["options"]: found["value"]
        for override in config["overrides"]
        for found in override["properties"]
        if found["id"] == "links"
    }
    if panel["type"] == "table":
        return [link for column in labels for link in given.get(column, [])]
    return list(given.get(name, config["defaults"].get("links", [])))


def faults(dashboard: Json) -> list[str]:
    """Return the places where a dashboard differs from Grafana's schema: keys, types, enumerations."""
    known = schema.Dashboard.from_json(dashboard)
    again = json.loads(json.dumps(known, cls=encoder.JSONEncoder))
    return [*_lost(dashboard, again, ""), *_wrong(known, "")]


def _lost(ours: Any, theirs: Any, where: str) -> Iterator[str]:
    """Yield what the schema's classes did not take up."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key not in theirs:
                yield f"{where}.{key}: not in the schema"
            else:
                yield from _lost(value, theirs[key], f"{where}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from _lost(*pair, f"{where}[{number}]")
    elif ours != theirs:
        yield f"{where}: {ours!r} is taken for {theirs!r}"


def _wrong(known: object, where: str) -> Iterator[str]:
    """Values that are not what the schema's classes say of them."""
    for name, annotation in typing.get_type_hints(type(known)).items():
        yield from _mismatch(getattr(known, name), annotation, f"{where}.{name}")


def _mismatch(value: Any, annotation: Any, where: str) -> Iterator[str]:
    """Yield the places where a value is not of an annotated type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {typing.Union, types.UnionType}:
        others = [one for one in arguments if one is not type(None)]
        if value is not None or len(others) == len(arguments):
            tried = [list(_mismatch(value, one, where)) for one in others]
            yield from min(tried, key=len)
    elif origin is list and isinstance(value, list):
        for number, one in enumerate(value):
            yield from _mismatch(one, arguments[0], f"{where}[{number}]")
    elif origin is dict and isinstance(value, dict):
        for key, one in value.items():
            yield from _mismatch(one, arguments[1], f"{where}.{key}")
    elif annotation is object or annotation is typing.Any:
        if _is_schema(type(value)):
            yield from _wrong(value, where)
    elif _is_schema(annotation) and not issubclass(annotation, enum.Enum):
        yield from _mismatch_of_class(value, annotation, where)
    elif not _fits(value, annotation):
        yield f"{where}: {value!r} is no {annotation}"


def _mismatch_of_class(value: Any, annotation: Any, where: str) -> Iterator[str]:
    if isinstance(value, dict):  # some parts are left as they were read
        known = annotation.from_json(value)
        yield from _lost(value, json.loads(json.dumps(known, cls=encoder.JSONEncoder)), where)
        yield from _wrong(known, where)
    elif isinstance(value, annotation):
        yield from _wrong(value, where)
    else:
        yield f"{where}: {value!r} is no {annotation.__name__}"


def _is_schema(annotation: object) -> bool:
    return isinstance(annotation, type) and annotation.__module__.startswith(
        "grafana_foundation_sdk"
    )


def _fits(value: object, annotation: Any) -> bool:
    """Return whether a value without parts is of that type."""
    if typing.get_origin(annotation) is typing.Literal:
        return value in typing.get_args(annotation)
    if not isinstance(annotation, type):
        return False
    if issubclass(annotation, enum.Enum):
        return value in {member.value for member in annotation}
    if annotation in {int, float}:
        accepted = int | float if annotation is float else int
        return isinstance(value, accepted) and not isinstance(value, bool)
    return isinstance(value, annotation)
