"""Which request gets which response, and the landing page."""

from __future__ import annotations

import gzip
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

import threadwatch
from tests import views
from threadwatch.metrics.exporter import Exporter
from threadwatch.model.keys import SeriesKey
from threadwatch.model.view import StateTime, View
from threadwatch.web import pages
from threadwatch.web.app import App, check_telemetry_path, path_of
from threadwatch.web.health import Health
from threadwatch.web.messages import Request, Response


def app(view: View | None = None, *, telemetry_path: str = "/metrics") -> App:
    """Return the application, with ``view`` published."""
    exporter = Exporter()
    if view is not None:
        exporter.publish(view)
    return App(exporter, views.health(), telemetry_path)


def get(application: App, target: str, method: str = "GET", **headers: str) -> Response:
    """Return the response to a request for ``target``."""
    return views.answered(application, Request(method, target, headers))


def headers(response: Response) -> dict[str, str]:
    """Return the response's headers by name."""
    found = dict(response.headers)
    assert len(found) == len(response.headers)
    return found


def test_metrics_are_served_as_asked_for() -> None:
    """The telemetry path gives the exposition in the negotiated format and encoding."""
    application = app(views.sample())
    plain = get(application, "/metrics")
    assert plain.status == 200
    assert headers(plain) == {
        "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
        "Vary": "Accept, Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    request = Request(
        "GET", "/metrics", {"accept": "application/openmetrics-text", "accept-encoding": "gzip"}
    )
    packed = headers(views.answered(application, request))
    assert packed["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert packed["Content-Encoding"] == "gzip"


class Clock:
    """A clock that the test moves on."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ns

    def move(self, seconds: int) -> None:
        """Let time pass."""
        self.now_ns += seconds * 1_000_000_000


def test_readiness_waits_for_the_first_poll() -> None:
    """Ready is 503 until the first poll is complete, then 200; healthy it is before."""
    health = Health()
    application = App(Exporter(), health)
    assert get(application, "/-/ready").status == 503
    response = get(application, "/-/healthy")
    assert (response.status, response.body) == (200, b"threadwatch is healthy.\n")
    health.polled()
    response = get(application, "/-/ready")
    assert (response.status, response.body) == (200, b"threadwatch is ready.\n")


def test_neither_healthy_nor_ready_while_polls_hang() -> None:
    """Both fail once polls do not get on for as long as they may take, and recover with the next poll."""
    clock = Clock()
    health = Health(clock)
    health.expect_polls(60_000_000_000)
    application = App(Exporter(), health)
    clock.move(50)
    health.getting_on()
    clock.move(60)
    assert get(application, "/-/healthy").status == 200
    clock.move(1)
    response = get(application, "/-/healthy")
    why = b"polls hang: the last step of the first poll was made 61 s ago.\n"
    assert (response.status, response.body) == (503, b"threadwatch is not healthy: " + why)
    health.polled()
    assert get(application, "/-/ready").status == 200
    clock.move(61)
    for path, what in (("/-/healthy", b"healthy"), ("/-/ready", b"ready")):
        response = get(application, path)
        why = b"polls hang: the last poll was complete 61 s ago.\n"
        assert (response.status, response.body) == (
            503,
            b"threadwatch is not " + what + b": " + why,
        )
    assert get(application, "/metrics").status == 200
    health.polled()
    assert get(application, "/-/healthy").status == get(application, "/-/ready").status == 200


@pytest.mark.parametrize(
    "path", ["/metric", "/metrics/", "/-/", "/favicon.ico", "//", "/%6detrics", "/.."]
)
def test_other_paths_are_not_found(path: str) -> None:
    """What is not served is 404, and the answer says what is."""
    response = get(app(), path)
    assert response.status == 404
    assert b"/metrics" in response.body


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "BREW"]
)
def test_other_methods_are_not_allowed(method: str) -> None:
    """Only GET and HEAD are served, and Allow says so."""
    response = get(app(), "/metrics", method)
    assert response.status == 405
    assert headers(response)["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "target",
    [
        "/metrics?x=/y",
        "http://localhost:9749/metrics",
        "HTTP://[::1]/metrics?a",
        "https://host/metrics",
        "/metrics?",
    ],
)
def test_all_forms_of_a_target_are_understood(target: str) -> None:
    """A query is ignored, and a whole URL means its path."""
    assert path_of(target) == "/metrics"


@pytest.mark.parametrize("target", ["http://host", "http://host?query/with/slashes"])
def test_a_url_without_path_is_the_root(target: str) -> None:
    """A URL that ends with its host asks for /."""
    assert path_of(target) == "/"


@pytest.mark.parametrize("target", ["*", "", "metrics", "ftp://host/metrics", "host:80", "?"])
def test_other_targets_are_bad_requests(target: str) -> None:
    """A target without a path is answered with 400."""
    assert get(app(), target).status == 400


@given(st.text(), st.dictionaries(st.sampled_from(["accept", "accept-encoding"]), st.text()))
def test_no_request_fails(target: str, fields: dict[str, str]) -> None:
    """Whatever is asked for has a response, and none of them is a server error."""
    assert views.answered(app(views.sample()), Request("GET", target, fields)).status < 500


def test_all_responses_forbid_guessing_their_type() -> None:
    """Each response has a type, and X-Content-Type-Options says that it is to be believed."""
    for target in ("/", "/metrics", "/-/healthy", "/-/ready", "/nothing", "*"):
        found = headers(get(app(), target))
        assert found["X-Content-Type-Options"] == "nosniff"
        assert "charset=utf-8" in found["Content-Type"]


@pytest.mark.parametrize("path", ["/metrics", "/probe/threads", "/a.b_c~d-e"])
def test_the_telemetry_path_can_be_chosen(path: str) -> None:
    """Metrics are at the chosen path alone, and the landing page links to it."""
    application = app(views.sample(), telemetry_path=path)
    assert b"threadwatch_threads{" in get(application, path).body
    assert get(application, "/other").status == 404
    assert f'href=".{path}"'.encode() in get(application, "/").body


def test_metrics_at_the_root_take_the_landing_pages_place() -> None:
    """With / as the telemetry path there is no landing page."""
    assert b"threadwatch_threads{" in get(app(views.sample(), telemetry_path="/"), "/").body


@pytest.mark.parametrize(
    "path",
    [
        "",
        "metrics",
        "/a b",
        "/a?b",
        "/a#b",
        "/é",
        "//x",
        "/x/",
        "/-/healthy",
        "/-/ready",
        "/api/v1/view",
        "/api/v1/history",
        "/static/main.js",
        "/\n",
        "/m\n",
    ],
)
def test_unusable_telemetry_paths_are_told(path: str) -> None:
    """A path that could not be asked for, or is taken, is an error with an example of a right one."""
    with pytest.raises(ValueError, match="/metrics") as caught:
        check_telemetry_path(path)
    assert "\n" not in str(caught.value)


class _Reader(HTMLParser):
    """The text of a page, its links, and the tags that it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.attributes: set[str] = set()
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "a":
            self.links += [value or "" for name, value in attrs if name == "href"]
        else:
            self.sources += [value or "" for name, value in attrs if name in {"href", "src"}]
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in {"td", "th"} and data.strip():
            self.cells[-1] += data


def landing(view: View | None) -> _Reader:
    """Return the landing page of a daemon that has published ``view``."""
    return _Reader(get(app(view), "/").body.decode())


def test_landing_page_links_to_everything() -> None:
    """Metrics, JSON and both health paths are one click away, by links that hold behind a prefix."""
    assert landing(None).links == ["./metrics", "./api/v1/view", "./-/healthy", "./-/ready"]


def test_landing_page_says_what_is_watched() -> None:
    """A row for each group, most CPU time first: processes, published, threads, CPU seconds."""
    states = {"running": StateTime(2, 0, 0), "sleeping": StateTime(1_500, 0, 0)}
    series = {SeriesKey("t"): views.thread_totals(states=states)}
    page = landing(
        views.view(
            views.group("idle", {}, cpu_ns=0, processes=2, pythons={}),
            views.group("busy", series, cpu_ns=1_234_560_000_000),
        )
    )
    assert page.cells[5:] == ["busy", "1", "1", "1,502", "1,234.6", "idle", "2", "0", "0", "0.0"]


def test_landing_page_names_the_host() -> None:
    """Title and head say which machine it is of; what its name has is text."""
    page = get(App(Exporter(), views.health(), host="db7"), "/").body.decode()
    assert "<title>db7 · threadwatch</title>" in page
    assert '<span id="host">db7</span>' in page
    hostile = get(App(Exporter(), views.health(), host="<b>\u202e"), "/").body.decode()
    assert "<title>&lt;b&gt;\\u202e · threadwatch</title>" in hostile


def test_landing_page_names_the_version() -> None:
    """The page says which threadwatch it is."""
    assert threadwatch.__version__ in get(app(), "/").body.decode()


@pytest.mark.parametrize(
    ("view", "line"),
    [(None, "first poll is not complete"), (views.view(), "No Python process is seen")],
)
def test_landing_page_without_groups_says_why(view: View | None, line: str) -> None:
    """Where there is nothing to show, the page says so, and has no table."""
    assert line in get(app(view), "/").body.decode()
    assert "table" not in landing(view).tags


def test_landing_page_shows_the_newest_view() -> None:
    """The page is made anew for each view, and only then."""
    exporter = Exporter()
    application = App(exporter, views.health())
    exporter.publish(views.view(views.group("old", {})))
    first = get(application, "/")
    assert get(application, "/") is first
    exporter.publish(views.view(views.group("new", {})))
    assert b"new" in get(application, "/").body


def test_landing_page_is_bounded() -> None:
    """Beyond a number of groups the page counts the rest instead of listing them."""
    groups = (views.group(f"g{n}", {}, cpu_ns=n) for n in range(pages.MOST_GROUPS + 5))
    body = get(app(views.view(*groups)), "/").body.decode()
    assert body.count('<th scope="row">') == pages.MOST_GROUPS
    assert "and 5 more" in body


@pytest.mark.parametrize("name", [*views.HOSTILE, views.SURROGATES])
def test_hostile_names_are_text_on_the_landing_page(name: str) -> None:
    """A group's name adds no tag and no attribute to the page, and nothing that cannot be printed."""
    harmless = landing(views.view(views.group("shop", {})))
    page = landing(views.view(views.group(name, {})))
    assert (page.tags, page.attributes) == (harmless.tags, harmless.attributes)
    assert pages.printable(name).isprintable()
    if name.isprintable() and not name.isspace():
        assert page.cells[5] == name


def test_landing_page_fits_its_own_security_policy() -> None:
    """Nothing inline and nothing from elsewhere: our own files alone, no markup made by scripts."""
    response = get(app(views.sample()), "/")
    policy = headers(response)["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'"} <= set(policy)
    assert "require-trusted-types-for 'script'" in policy
    page = _Reader(response.body.decode())
    assert "style" not in page.tags
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    assert all(source.startswith("./static/") for source in page.sources)
    assert re.search(r"<script[^>]*></script>", response.body.decode())


def test_what_the_page_needs_is_served() -> None:
    """Each file that the page or one of its files names is there, with a type that browsers believe."""
    application = app(views.sample())
    wanted = {path[1:] for path in _Reader(get(application, "/").body.decode()).sources}
    seen: set[str] = set()
    while wanted - seen:
        path = (wanted - seen).pop()
        seen.add(path)
        response = get(application, path)
        assert response.status == 200, path
        expected = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
        kind = headers(response)["Content-Type"].partition(";")[0]
        assert kind == expected[path.rpartition(".")[2]]
        imports = re.findall(r'from "\./([a-z]+\.js)"', response.body.decode())
        wanted |= {f"/static/{name}" for name in imports}
        packed = get(application, path, **{"accept-encoding": "gzip"})
        assert gzip.decompress(packed.body) == response.body
    assert "/static/tree.js" in seen


@pytest.mark.parametrize(
    "path", ["/static/", "/static", "/static/../app.py", "/static/%2e%2e/app.py"]
)
def test_nothing_else_of_the_package_is_served(path: str) -> None:
    """There are only the page's own files, by their exact paths."""
    assert get(app(), path).status == 404


def test_landing_page_serves_both_colour_schemes() -> None:
    """Readers of dark and of light pages both get theirs."""
    style = get(app(), "/static/page.css").body.decode()
    assert "color-scheme: light dark" in style
    assert "url(" not in style
    assert "@import" not in style
