"""Grafana's JSON, in its classic schema: what a dashboard, a variable and each kind of panel consist of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dashboards.grid import Grid
from dashboards.promql import STATES

Json = dict[str, Any]

TAG: Final = "threadwatch"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA: Final = 39
"""Grafana 10.4's; later ones bring older schemas up to theirs when they load them."""

NOT_SEEN: Final = "not seen"
COLOURS: Final = {state.name: state.grafana.colour for state in STATES}
"""One colour per state on all dashboards: warm ones where a thread wants to run and cannot."""


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression of a panel."""

    expression: str
    legend: str = ""
    unit: str = ""
    """Of a table's column, where it differs from the panel's."""
    colours: tuple[tuple[float | None, str], ...] = ()
    """Thresholds of a table's column: from which value on, which colour."""


def thresholds(*steps: tuple[float | None, str]) -> Json:
    """Return from which value on there is which colour; the first one starts with None."""
    return {"mode": "absolute", "steps": [{"value": value, "color": c} for value, c in steps]}


def _panel(kind: str, title: str, description: str, queries: list[Json], **rest: Any) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": _SOURCE,
        "targets": queries,
        **rest,
    }


def _targets(queries: tuple[Query, ...], *, instant: bool, form: str) -> list[Json]:
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": _SOURCE,
            "expr": query.expression,
            "legendFormat": query.legend,
            "format": form,
            "instant": instant,
            "range": not instant,
        }
        for number, query in enumerate(queries)
    ]


def stat(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str = "none",
    colours: tuple[tuple[float | None, str], ...] = ((None, "text"),),
    decimals: int | None = None,
    words: dict[str, tuple[str, str]] | None = None,
) -> Json:
    """Return one number, large. ``words`` puts text and colour in the place of values."""
    defaults: Json = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds(*colours),
        "noValue": NOT_SEEN,
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    if words:
        options = {value: {"text": text, "color": c} for value, (text, c) in words.items()}
        defaults["mappings"] = [{"type": "value", "options": options}]
    return _panel(
        "stat",
        title,
        description,
        _targets((query,), instant=True, form="time_series"),
        fieldConfig={"defaults": defaults, "overrides": []},
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "textMode": "value",
            "orientation": "auto",
            "wideLayout": True,
        },
    )


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    stacked: bool = False,
    ceiling: float | None = None,
    colours: dict[str, str] | None = None,
    below_zero: str | None = None,
    link: Json | None = None,
) -> Json:
    """Return lines over time, or stacked areas.

    ``ceiling`` draws a dashed line; ``colours`` are those of series by name; series whose name matches
    ``below_zero`` are drawn downwards; ``link`` is what a click on a series leads to.
    """
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 0 if stacked else 1,
        "fillOpacity": 70 if stacked else 8,
        "gradientMode": "none",
        "showPoints": "never",
        "spanNulls": False,
        "axisSoftMin": 0,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if ceiling is not None else "off"},
    }
    steps: tuple[tuple[float | None, str], ...] = ((None, "transparent"),)
    if ceiling is not None:
        steps += ((ceiling, "red"),)
    overrides = [
        _override("byName", name, {"color": {"mode": "fixed", "fixedColor": colour}})
        for name, colour in (colours or {}).items()
    ]
    if below_zero:
        overrides.append(_override("byRegexp", below_zero, {"custom.transform": "negative-Y"}))
    defaults: Json = {
        "unit": unit,
        "custom": custom,
        "color": {"mode": "palette-classic-by-name"},
        "thresholds": thresholds(*steps),
        "noValue": NOT_SEEN,
    }
    if link:
        defaults["links"] = [link]
    return _panel(
        "timeseries",
        title,
        description,
        _targets(queries, instant=False, form="time_series"),
        fieldConfig={"defaults": defaults, "overrides": overrides},
        options={
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["mean", "max"],
                "sortBy": "Mean",
                "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def timeline(title: str, description: str, query: Query) -> Json:
    """Return a bar per series, coloured by the state whose number is its value."""
    options = {
        str(state.grafana.number): {
            "text": state.name,
            "color": state.grafana.colour,
            "index": state.grafana.number - 1,
        }
        for state in STATES
    }
    return _panel(
        "state-timeline",
        title,
        description,
        _targets((query,), instant=False, form="time_series"),
        fieldConfig={
            "defaults": {
                "unit": "none",
                "custom": {"lineWidth": 0, "fillOpacity": 85, "spanNulls": False},
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((None, "text")),
                "mappings": [{"type": "value", "options": options}],
                "noValue": NOT_SEEN,
            },
            "overrides": [],
        },
        options={
            "mergeValues": True,
            "showValue": "never",
            "alignValue": "left",
            "rowHeight": 0.85,
            "perPage": 40,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "single", "sort": "none"},
        },
    )


def table(
    title: str,
    description: str,
    *columns: Query,
    labels: tuple[str, ...],
    sort: str | None = None,
    hide: tuple[str, ...] = (),
    unit: str = "none",
    links: dict[str, Json] | None = None,
) -> Json:
    """Labels, then one column for each query under its legend; rows with the same labels are one.

    A query without a legend is there for its labels. ``links`` are what a click on a column leads to.
    """
    letters = [chr(ord("A") + number) for number in range(len(columns))]
    value = "Value" if len(columns) == 1 else "Value #{}"
    names = {value.format(letter): q.legend for letter, q in zip(letters, columns, strict=True)}
    order = {name: place for place, name in enumerate((*labels, *names))}
    hidden = ("Time", "__name__", *hide, *(name for name, legend in names.items() if not legend))
    overrides = []
    for column in columns:
        properties: Json = {"unit": column.unit} if column.unit else {}
        if column.colours:
            properties["thresholds"] = thresholds(*column.colours)
            properties["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
        if column.legend and properties:
            overrides.append(_override("byName", column.legend, properties))
    overrides += [
        _override("byName", name, {"links": [link]}) for name, link in (links or {}).items()
    ]
    return _panel(
        "table",
        title,
        description,
        _targets(columns, instant=True, form="table"),
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": dict.fromkeys(hidden, True),
                    "indexByName": order,
                    "renameByName": {name: legend for name, legend in names.items() if legend},
                },
            },
        ],
        fieldConfig={
            "defaults": {
                "unit": unit,
                "custom": {"align": "auto", "filterable": True},
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((None, "text")),
                "noValue": NOT_SEEN,
            },
            "overrides": overrides,
        },
        options={
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": sort, "desc": True}] if sort else [],
        },
    )


def _override(matcher: str, options: str, properties: Json) -> Json:
    return {
        "matcher": {"id": matcher, "options": options},
        "properties": [{"id": name, "value": value} for name, value in properties.items()],
    }


def link(title: str, uid: str, **variables: str) -> Json:
    """Return a click leads to another dashboard with these variables; time, source, job and instance stay."""
    kept = ("datasource", "job", *(() if "instance" in variables else ("instance",)))
    chosen = [f"${{{name}:queryparam}}" for name in kept]
    chosen += [f"var-{name}={value}" for name, value in variables.items()]
    return {
        "title": title,
        "url": f"/d/{uid}?${{__url_time_range}}&{'&'.join(chosen)}",
        "targetBlank": False,
    }


def _variable(name: str, metric: str, matchers: tuple[str, ...], *, multi: bool = True) -> Json:
    query = f"label_values({metric}{{{', '.join(matchers)}}}, {name})"
    everything = {"selected": True, "text": ["All"], "value": ["$__all"]}
    several = {"includeAll": True, "allValue": ".+" if name in {"job", "instance"} else ".*"}
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,
        "sort": 5,
        "multi": multi,
        "includeAll": multi,
        **(several if multi else {}),
        "current": everything if multi else {},
        "options": [],
        "regex": "",
        "hide": 0,
    }


def variables(*, groups: str | None = None, thread: bool = False) -> list[Json]:
    """Data source, job and instance, and if wanted the groups (several, or one) and threads in them."""
    found: list[Json] = [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "options": [],
            "regex": "",
            "refresh": 1,
            "multi": False,
            "includeAll": False,
            "hide": 0,
        },
        _variable("job", "threadwatch_build_info", ()),
        _variable("instance", "threadwatch_build_info", ('job=~"$job"',)),
    ]
    if groups:
        host = ('job=~"$job"', 'instance=~"$instance"')
        several = groups == "several"
        found.append(_variable("group", "threadwatch_group_processes", host, multi=several))
        if thread:
            group = 'group=~"$group"' if several else 'group="$group"'
            found.append(_variable("thread", "threadwatch_threads_started_total", (*host, group)))
    return found


def dashboard(
    uid: str,
    title: str,
    description: str,
    chosen: list[Json],
    grid: Grid,
    *,
    period: str = "now-1h",
) -> Json:
    """Return a whole dashboard."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": period, "to": "now"},
        "timezone": "browser",
        "schemaVersion": _SCHEMA,
        "links": [
            {
                "title": "threadwatch",
                "type": "dashboards",
                "tags": [TAG],
                "icon": "external link",
                "tooltip": "",
                "url": "",
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
            }
        ],
        "templating": {"list": chosen},
        "annotations": {"list": []},
        "panels": grid.panels,
    }
