"""What the documentation and the example say about the web configuration is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from threadwatch.web.auth.settings import SECTIONS, parse_web_config

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = (CHECKOUT / "config/web.yml").read_text("utf-8")
DOCS = (CHECKOUT / "docs/web-config.md").read_text("utf-8")
KEYS = sorted({key for keys in SECTIONS.values() for key in keys} - {"rate_limit"})
HASH = "$2y$10$2ec9n0tAr3alHashB2tAsL0ngAs0neIs1234567890abcdefghijk"


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_in_the_docs_and_in_the_example(key: str) -> None:
    """No key can be added without a word about it."""
    assert f"`{key}`" in DOCS
    assert re.search(rf"(?m)^[ #]*{key}:", EXAMPLE)


def test_the_example_changes_nothing() -> None:
    """The example, copied as it is, serves plain HTTP to all, as without it."""
    settings = parse_web_config(EXAMPLE.encode(), "web.yml")
    assert (settings.tls, dict(settings.users), settings.headers) == (None, {}, ())


def test_what_the_example_has_in_comments_is_valid_too() -> None:
    """With the one-# lines uncommented, less what is there in two ways, the example is good."""
    text = re.sub(r"(?m)^( *)# ?(?!#)", r"\1", EXAMPLE).replace(": {}\n", ":\n")
    text = re.sub(r"(?m)^  (?:cert|key|client_ca): \|\n.*\n", "", text)
    text = text.replace("NoClientCert\n", "RequireAndVerifyClientCert\n")
    settings = parse_web_config(text.encode(), "/etc/web.yml")
    assert settings.tls is not None
    assert settings.files() == ("/etc/server.pem", "/etc/server.key", "/etc/clients.pem")
    assert settings.tls.allowed_sans == {"prometheus.example.org"}
    assert len(settings.headers) == 5
    assert settings.users == {b"prometheus": HASH.encode()}


def test_the_docs_example_is_valid() -> None:
    """The examples in the docs give TLS and a user."""
    text = re.findall(r"(?s)```yaml\n(.*?)```", DOCS)[0]
    settings = parse_web_config(text.encode(), "web.yml")
    assert settings.tls is not None
    assert list(settings.users) == [b"prometheus"]
