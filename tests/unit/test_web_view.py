"""A client that asks for single threads gets the last view that has them, encoded once for all."""

from __future__ import annotations

import gzip
import json
from array import array
from dataclasses import replace

from tests import views
from threadwatch.metrics.exporter import Exporter
from threadwatch.model.history import HistoryView, Trace
from threadwatch.web.app import App
from threadwatch.web.audience import Audience
from threadwatch.web.messages import Request, Response
from threadwatch.words.to_json import view_json

SECOND = 1_000_000_000
TRACE = array("H", range(120)).tobytes()


def _get(app: App, path: str = "/api/v1/view", **headers: str) -> Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return views.answered(app, Request("GET", path, fields))


def test_the_last_view_is_served() -> None:
    """The answer is the view as JSON, not to be kept."""
    exporter = Exporter()
    exporter.publish(views.sample())
    response = _get(App(exporter, views.health()))
    assert response.status == 200
    assert json.loads(response.body) == json.loads(json.dumps(view_json(views.sample())))
    assert dict(response.headers)["Cache-Control"] == "no-store"
    assert dict(response.headers)["Content-Type"] == "application/json"


def test_it_is_packed_for_who_can_unpack() -> None:
    """With gzip accepted the same comes smaller."""
    exporter = Exporter()
    exporter.publish(views.hostile())
    app = App(exporter, views.health())
    packed = _get(app, accept_encoding="gzip, br")
    assert dict(packed.headers)["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == _get(app).body
    assert len(packed.body) < len(_get(app).body) / 4


def test_many_clients_cost_as_one() -> None:
    """A view is encoded once; the next one anew."""
    exporter = Exporter()
    exporter.publish(views.sample())
    app = App(exporter, views.health())
    first = _get(app, accept_encoding="gzip")
    assert _get(app, accept_encoding="gzip") is first
    assert _get(app) is _get(app)
    exporter.publish(views.sample()._replace(sequence=4))
    assert json.loads(_get(app).body)["sequence"] == 4


def test_the_history_is_encoded_once_for_as_long_as_it_is_the_same() -> None:
    """It has a step every few polls, and no more often is it made anew."""
    exporter = Exporter()
    history = HistoryView(5 * SECOND, 120, views.NOW_NS, {"shop": Trace(1, 3, 4, TRACE)}, {})
    view = views.view(views.group("shop", {}), history=history)
    exporter.publish(view)
    app = App(exporter, views.health())
    first = _get(app, "/api/v1/history")
    assert json.loads(first.body)["groups"] == [{"name": "shop", "cpu_percent": [0.2, 0.3, 0.0]}]
    exporter.publish(view._replace(sequence=4))
    assert _get(app, "/api/v1/history") is first
    exporter.publish(view._replace(sequence=5, history=replace(history, groups={})))
    assert json.loads(_get(app, "/api/v1/history").body)["groups"] == []


def test_who_is_first_is_asked_to_come_again() -> None:
    """Before there are threads to show the answer is 503, with the time of the next poll."""
    exporter = Exporter()
    app = App(exporter, views.health())
    assert dict(_get(app).headers)["Retry-After"] == "1"
    exporter.publish(views.view(details=False, interval_ns=15 * SECOND))
    response = _get(app)
    assert response.status == 503
    assert dict(response.headers)["Retry-After"] == "15"


def test_whoever_asks_is_the_audience() -> None:
    """Asking for the view, and nothing else, makes the next polls look at single threads."""
    audience = Audience()
    app = App(Exporter(), views.health(), audience=audience)
    for path in ("/metrics", "/", "/-/ready"):
        app(Request("GET", path))
    assert not audience.present(SECOND)
    _get(app, "/api/v1/history")
    assert audience.present(SECOND)


def test_the_audience_goes_when_it_stops_asking() -> None:
    """A client that has not asked for 10 s, or 3 polls if that is longer, does not look any more."""
    now = 5 * SECOND
    audience = Audience(lambda: now)
    audience.ask()
    now += 10 * SECOND
    assert audience.present(SECOND)
    now += 1
    assert not audience.present(SECOND)
    now += 20 * SECOND - 1
    assert audience.present(10 * SECOND)
    now += 1
    assert not audience.present(10 * SECOND)
