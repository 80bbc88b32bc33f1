"""Web configurations of any bytes: settings or one error, and no secret in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from threadwatch.errors import ConfigError
from threadwatch.web.auth.settings import SECTIONS, parse_web_config

KEYS = [key for keys in SECTIONS.values() for key in keys]
SCALARS = st.one_of(
    st.sampled_from(
        ["", "~", "true", "TLS12", "NoClientCert", "deny", "1", "'x'", "*x", "!t x", "|"]
    ),
    st.text(max_size=20),
    st.text(max_size=20).map(lambda text: '"' + text.replace('"', '\\"') + '"'),
    st.sampled_from(['"\\ud800"', '"\\0"', "[a, b]", "{a: b}", "$2y$10$" + "a" * 53]),
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Something like a web configuration."""
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        indent = draw(st.sampled_from(["", "  ", "    "]))
        key = draw(st.one_of(st.sampled_from(KEYS), SCALARS))
        lines.append(f"{indent}{key}: {draw(SCALARS)}")
    return "\n".join(lines)


@given(st.one_of(st.binary(), documents().map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_are_settings_or_one_error(data: bytes) -> None:
    """Nothing but settings or a ConfigError of one printable line comes out."""
    message = complaint(data)
    assert message is None or (message.isprintable() and message.startswith("web.yml"))


def complaint(data: bytes) -> str | None:
    """Return the complaint about a file; None: it is good."""
    try:
        parse_web_config(data, "web.yml")
    except ConfigError as error:
        return str(error)
    return None


MISPLACED = "Tr0ub4dor-and-3"


@given(
    st.sampled_from(
        [
            "basic_auth_users: {{alice: {}}}",
            "basic_auth_users: {}",
            "basic_auth_users: [{}]",
            "basic_auth_users:\n  alice: {}\n  bob: {}",
            "tls_server_config: {{key: {}, cert_file: [a]}}",
            "tls_server_config: {{key: {}, cert: x, min_version: TLS14}}",
            "tls_server_config: {}",
            "{}",
            "- {}",
        ]
    ),
    st.sampled_from(
        [
            "{}",
            "'{}'",
            "'{}",
            '"{}"',
            '"{}',
            "*{}",
            "&{} x",
            "!{} x",
            "!<{}> x",
            "!{}!x y",
            "[{}]",
            "%{}",
        ]
    ),
)
def test_secrets_stay_out_of_messages(document: str, written: str) -> None:
    """A password or a key that stands in the wrong place, or in the wrong way, is not repeated."""
    text = document.format(*[written.format(MISPLACED)] * 2)
    assert MISPLACED not in (complaint(text.encode()) or "")
