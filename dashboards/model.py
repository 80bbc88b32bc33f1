"""Grafana's JSON, in its classic schema: what a dashboard, a variable and each kind of panel consist of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dashboards.grid import Grid
from dashboards.promql import STATES

Json = dict[str, Any]

TAG: Final = "threadwatch"
APPLICATION: Final = "threadwatch-application"
"""The uid of the dashboard of one application, to which most links lead."""
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA: Final = 39
"""Grafana 10.4's; later ones bring older schemas up to theirs when they load them."""

NONE: Final = "none"
NOT_SEEN: Final = "not seen"
"""Instead of a value that permission, the configuration or a Python without a GIL keeps from us."""
COLOURS: Final = {state.name: state.top.colour for state in STATES}
"""One colour per state, that of ``threadwatch top``: it can be read on light and on dark."""
_GREY: Final = "#8e8e8e"
_APART: Final = "^\\((other|unattributed|throttled)\\)$"
"""Series that are no thread's or task's."""
_DECIMALS: Final = {"short": 2, "percentunit": 0, "cps": 1, "s": 1}
"""Of values, where a panel says nothing else. Grafana's own choice is three digits: 0.000401."""


_AXIS: Final = {"short": 0.1, "percentunit": 0.01, "cps": 1}
"""How far an axis goes at least: of what is 0 all the time, Grafana's goes to 100."""
_NARROW: Final = 90
"""Pixels that a table's column has at least: with Grafana's 150, the last ones are not visible."""
_ADDRESS: Final = 150
"""Pixels for a host and a port."""
_DASHED: Final = {
    "custom.lineStyle": {"fill": "dash", "dash": [8, 6]},
    "custom.lineWidth": 1,
    "custom.fillOpacity": 0,
    "custom.stacking": {"mode": "none", "group": "A"},
}


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression of a panel."""

    expression: str
    legend: str = ""
    unit: str = ""
    """Of a table's column, where it differs from the panel's."""
    decimals: int | None = None
    """Of a table's column, where they differ from those that its unit has."""
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


def _number(unit: str, decimals: int | None) -> Json:
    shown = _DECIMALS.get(unit) if decimals is None else decimals
    return {"unit": unit} if shown is None else {"unit": unit, "decimals": shown}


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
    nothing: str = NONE,
) -> Json:
    """Return one number, large.

    ``words`` puts text and colour in the place of values; ``nothing`` is said where there is none.
    """
    defaults: Json = {
        **_number(unit, decimals),
        "color": {"mode": "thresholds"},
        "thresholds": thresholds(*colours),
        "noValue": nothing,
    }
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
    decimals: int | None = None,
    stacked: bool = False,
    ceiling: float | None = None,
    colours: dict[str, str] | None = None,
    dashed: str | None = None,
    below_zero: str | None = None,
    links: tuple[Json, ...] = (),
    nothing: str = NONE,
    wide: bool = False,
) -> Json:
    """Return lines over time, or stacked areas.

    ``ceiling`` draws a dashed line; ``colours`` are those of series by name; the series that is called
    ``dashed`` is a dashed line that is not stacked; series whose name matches ``below_zero`` are drawn
    downwards; ``links`` are what a click on a series leads to; ``nothing`` is said where there is no series.
    What is ``wide`` has its legend on the right, with a row per series; else names alone stand below.
    """
    top = _AXIS.get(unit) if ceiling is None else ceiling
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 0 if stacked else 1,
        "fillOpacity": 70 if stacked else 0,
        "gradientMode": "none",
        "showPoints": "never",
        "spanNulls": False,
        "axisSoftMin": 0,
        **({"axisSoftMax": top} if top else {}),
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if ceiling is not None else "off"},
    }
    steps: tuple[tuple[float | None, str], ...] = ((None, "transparent"),)
    if ceiling is not None:
        steps += ((ceiling, "red"),)
    overrides = [_override("byRegexp", _APART, _fixed(_GREY))]
    overrides += [
        _override("byName", name, _fixed(colour)) for name, colour in (colours or {}).items()
    ]
    if dashed:
        overrides.append(_override("byName", dashed, _fixed("text") | _DASHED))
    if below_zero:
        overrides.append(_override("byRegexp", below_zero, {"custom.transform": "negative-Y"}))
    if unit == "percentunit" and decimals is None:
        decimals = 1  # with none, an axis has 0 and 100 % alone
    defaults: Json = {
        **_number(unit, decimals),
        "custom": custom,
        # by place: neighbours differ. By name, two of ten names have the same colour.
        "color": {"mode": "palette-classic"},
        "thresholds": thresholds(*steps),
        "noValue": nothing,
    }
    if links:
        defaults["links"] = list(links)
        overrides += [  # what has a name of its own has no labels for a link
            _override("byName", query.legend, {"links": []})
            for query in queries
            if "{{" not in query.legend
        ]
    legend: Json = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
    if wide:
        legend |= {"displayMode": "table", "placement": "right", "calcs": ["mean", "max"]}
        legend |= {"sortBy": "Mean", "sortDesc": True}
    return _panel(
        "timeseries",
        title,
        description,
        _targets(queries, instant=False, form="time_series"),
        fieldConfig={"defaults": defaults, "overrides": overrides},
        options={"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}},
    )


def _fixed(colour: str) -> Json:
    return {"color": {"mode": "fixed", "fixedColor": colour}}


def timeline(title: str, description: str, query: Query) -> Json:
    """Return a bar per series, coloured by the state whose number is its value."""
    options = {
        str(state.grafana.number): {
            "text": state.name,
            "color": state.top.colour,
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
                "noValue": NONE,
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
    nothing: str = NONE,
) -> Json:
    """Labels, then one column for each query under its legend; rows with the same labels are one.

    A query without a legend is there for its labels. ``links`` are what a click on a column leads to;
    ``nothing`` is said where there is no row.
    """
    letters = [chr(ord("A") + number) for number in range(len(columns))]
    value = "Value" if len(columns) == 1 else "Value #{}"
    names = {value.format(letter): q.legend for letter, q in zip(letters, columns, strict=True)}
    order = {name: place for place, name in enumerate((*labels, *names))}
    hidden = ("Time", "__name__", *hide, *(name for name, legend in names.items() if not legend))
    overrides = [_override("byRegexp", ".*", {"noValue": "–"})]
    if len(columns) > 1:  # it is as wide as the dashboard
        overrides.append(_override("byName", "instance", {"custom.minWidth": _ADDRESS}))
    for column in columns:
        properties = _number(column.unit or unit, column.decimals)
        if column.colours:
            properties["thresholds"] = thresholds(*column.colours)
            properties["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
        if column.legend:
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
                **_number(unit, None),
                "custom": {"align": "auto", "filterable": True, "minWidth": _NARROW},
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((None, "text")),
                "noValue": nothing,
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
    """Return a click that leads to another dashboard; time, source, job and instance stay as they are."""
    kept = ("datasource", "job", *(() if "instance" in variables else ("instance",)))
    chosen = [f"${{{name}:queryparam}}" for name in kept]
    chosen += [f"var-{name}={value}" for name, value in variables.items()]
    return {
        "title": title,
        "url": f"/d/{uid}?${{__url_time_range}}&{'&'.join(chosen)}",
        "targetBlank": False,
    }


def _page(instance: str) -> Json:
    return {"title": f"Page of {instance}", "url": f"http://{instance}/", "targetBlank": True}


def of_row(*labels: str) -> dict[str, Json]:
    """Return what a click on these columns leads to: a group and a thread alone, a host's page."""
    chosen = {name: f"${{__data.fields.{name}:percentencode}}" for name in labels}
    links = {"instance": _page("${__data.fields.instance}")}
    if "group" in labels:
        without_thread = {name: value for name, value in chosen.items() if name != "thread"}
        links["group"] = link("Threads of ${__data.fields.group}", APPLICATION, **without_thread)
    if "thread" in labels:
        links["thread"] = link("${__data.fields.thread} alone", APPLICATION, **chosen)
    return links


def of_series(*labels: str) -> tuple[Json, ...]:
    """Return what a click on a series with these labels leads to: its thread or group, its host's page."""
    chosen = {name: f"${{__field.labels.{name}:percentencode}}" for name in labels}
    found = []
    if "thread" in labels:
        found.append(link("${__field.labels.thread} alone", APPLICATION, **chosen))
    elif "group" in labels:
        found.append(link("Threads of ${__field.labels.group}", APPLICATION, **chosen))
    if "instance" in labels:
        found.append(_page("${__field.labels.instance}"))
    return tuple(found)


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


def annotation(
    name: str, expression: str, *, title: str, text: str, colour: str, at_value: bool = False
) -> Json:
    """Return events that are marked in each graph; with ``at_value``, the value is their time (ms)."""
    return {
        "name": name,
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": colour,
        "expr": expression,
        "step": "30s",
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": "instance",
        "useValueForTime": at_value,
    }


def dashboard(
    uid: str,
    title: str,
    description: str,
    chosen: list[Json],
    grid: Grid,
    annotations: list[Json],
    *,
    period: str = "now-1h",
) -> Json:
    """Return a whole dashboard."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG],
        "editable": True,
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
        "annotations": {"list": annotations},
        "panels": grid.panels,
    }
