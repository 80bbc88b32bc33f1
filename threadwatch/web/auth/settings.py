"""Parses the web configuration: from the bytes of its file to settings. No I/O.

The format is that of Prometheus' exporter-toolkit (its docs/web-configuration.md), and a file that
``promtool check web-config`` refuses is refused. docs/web-config.md lists what promtool accepts and
we refuse: keys that have no effect, and files that would leave open what their author meant to
close. The file holds secrets, so no message quotes its values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ssl import TLSVersion
from typing import Final

from threadwatch.config.document import MAX_BYTES, document
from threadwatch.config.value import UNPRINTABLE, Value
from threadwatch.errors import ConfigError

FLAG: Final = "--web.config.file"
MAX_COST: Final = 18
"""The highest bcrypt cost: about 20 s. A cost that takes days would lock out all users."""

SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"),
    "tls_server_config": (
        *("cert_file", "key_file", "cert", "key", "client_auth_type", "client_ca_file"),
        *("client_ca", "client_allowed_sans", "min_version", "max_version", "cipher_suites"),
        *("prefer_server_cipher_suites", "curve_preferences"),
    ),
    "http_server_config": ("http2", "headers"),
    "http_server_config.headers": (
        *("Content-Security-Policy", "Strict-Transport-Security", "X-Content-Type-Options"),
        *("X-Frame-Options", "X-XSS-Protection"),
    ),
}
"""Each section's keys; the empty name is the top level."""

CIPHERS: Final[Mapping[str, str]] = {
    f"TLS_ECDHE_{key}_WITH_{go}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for go, openssl in {
        "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
        "AES_128_CBC_SHA": "AES128-SHA",
        "AES_256_CBC_SHA": "AES256-SHA",
    }.items()
}
"""Go's names of the cipher suites of TLS 1.2 → OpenSSL's: crypto/tls, openssl-ciphers(1)."""
CIPHERS_13: Final = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
"""The cipher suites of TLS 1.3. They may be named and, as with Go, change nothing: all of them are
offered."""
CURVES: Final[Mapping[str, str]] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
"""Go's names of curves → OpenSSL's."""

_VERSIONS: Final[Mapping[str, TLSVersion]] = {
    "TLS12": TLSVersion.TLSv1_2,
    "TLS13": TLSVersion.TLSv1_3,
}
_OLD_VERSIONS: Final = ("TLS10", "TLS11")
_CLIENT_AUTH: Final[Mapping[str, str]] = {
    "NoClientCert": "none",
    "RequestClientCert": "none",  # it requests a certificate and verifies none
    "VerifyClientCertIfGiven": "optional",
    "RequireAndVerifyClientCert": "required",
}
_UNVERIFIED: Final = ("RequireAnyClientCert", "RequireClientCert")
_HEADER_VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "X-Content-Type-Options": {"nosniff": "nosniff"},
    "X-Frame-Options": {"deny": "deny", "sameorigin": "sameorigin"},
}
_HEADER_VALUE: Final = re.compile("[!-~](?:[ -~]*[!-~])?")
_HASH: Final = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53}")
_HASH_WANTED: Final = (
    "a bcrypt hash of the password, 60 characters that begin with $2y$, $2b$ or $2a$: "
    "`htpasswd -nBC 10 NAME` makes one"
)


@dataclass(frozen=True, slots=True)
class Pem:
    """A piece of PEM, inline or in a file of its own."""

    value: Value
    """Its value in the web configuration, for messages."""
    path: str | None
    """The file; None: it is inline."""
    text: str = ""
    """The text, if it is inline."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The settings of TLS."""

    place: Value
    """The section, for messages."""
    cert: Pem
    key: Pem
    client_ca: Pem | None
    client_auth: str
    """Client certificates: none, optional or required; a certificate that a client sends is verified."""
    allowed_sans: frozenset[str]
    """Alternative names of which a client's certificate must have one; empty: any will do."""
    minimum: TLSVersion
    maximum: TLSVersion
    ciphers: tuple[str, ...]
    """OpenSSL's names, for TLS 1.2; empty: OpenSSL's choice."""
    server_order: bool
    """Whether our order of ciphers decides, or the client's."""
    curves: tuple[str, ...]
    """OpenSSL's names; empty: OpenSSL's choice."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """A web configuration."""

    tls: TlsSettings | None
    users: Mapping[bytes, bytes]
    """bcrypt hashes by the names of users, in UTF-8; empty: no client has to log in."""
    headers: tuple[tuple[str, str], ...]
    """Headers that are added to each response."""

    def files(self) -> tuple[str, ...]:
        """Return the other files that it names."""
        pems = (self.tls.cert, self.tls.key, self.tls.client_ca) if self.tls else ()
        return tuple(pem.path for pem in pems if pem is not None and pem.path is not None)


def parse_web_config(data: bytes, path: str) -> WebSettings:
    """Return the settings in a file's bytes. Messages name ``path``; relative paths begin in its directory.

    :raises ConfigError: they cannot be used.
    """
    top = document(data, path, flag=FLAG, secretive=True).mapping(SECTIONS[""])
    if value := top.get("rate_limit"):
        message = "is not supported: clients have their shares of connections already; remove it"
        raise ConfigError(path, value.key_line, value.key, message)
    tls = _tls(top["tls_server_config"]) if "tls_server_config" in top else None
    headers = _http(top["http_server_config"]) if "http_server_config" in top else ()
    users = _users(top["basic_auth_users"]) if "basic_auth_users" in top else {}
    return WebSettings(tls, users, headers)


def _users(section: Value) -> dict[bytes, bytes]:
    users = {}
    for name, value in section.entries("a mapping of user names to bcrypt hashes").items():
        if not name or ":" in name or UNPRINTABLE.search(name):
            value.fail("no client can send this user name: it needs characters, but no colon")
        match = _HASH.fullmatch(value.content) if isinstance(value.content, str) else None
        if match is None:
            value.wrong(_HASH_WANTED)
        if not 4 <= int(match["cost"]) <= MAX_COST:
            value.fail(
                f"the cost of a bcrypt hash should be from 04 to {MAX_COST}: each more doubles the time,"
                " and 10 is a good one"
            )
        users[name.encode()] = match[0].encode()
    return users


def _http(section: Value) -> tuple[tuple[str, str], ...]:
    values = section.mapping(SECTIONS["http_server_config"])
    if "http2" in values:
        values["http2"].boolean()  # clients choose by ALPN: both values are right
    if "headers" not in values:
        return ()
    headers = values["headers"].mapping(SECTIONS["http_server_config.headers"])
    pairs = ((name, _header(name, value)) for name, value in headers.items())
    return tuple((name, text) for name, text in pairs if text)


def _header(name: str, value: Value) -> str:
    if name in _HEADER_VALUES:
        return value.choice(_HEADER_VALUES[name])
    text = value.content
    if text == "" and not value.plain:
        return ""
    if not isinstance(text, str) or not _HEADER_VALUE.fullmatch(text) or text == "~":
        value.wrong("the header's value: printable ASCII on one line, without blanks around it")
    return text


def _tls(section: Value) -> TlsSettings | None:
    values = section.mapping(SECTIONS["tls_server_config"])
    if not values:
        return None
    cert, key = _needed(section, values, "cert"), _needed(section, values, "key")
    client_ca = _pem(section, values, "client_ca")
    minimum = _version(values.get("min_version"), TLSVersion.TLSv1_2)
    maximum = _version(values.get("max_version"), TLSVersion.TLSv1_3)
    if minimum > maximum:
        values["min_version"].fail("should not be above max_version")
    ciphers = _words(values.get("cipher_suites"), {**CIPHERS, **dict.fromkeys(CIPHERS_13, "")})
    if ciphers and not any(ciphers):
        if maximum < TLSVersion.TLSv1_3:
            values["cipher_suites"].fail("has none of TLS 1.2, which max_version wants: add one")
        minimum = TLSVersion.TLSv1_3
    order = values.get("prefer_server_cipher_suites")
    client_auth, sans = _client_auth(values, client_ca)
    return TlsSettings(
        place=section,
        cert=cert,
        key=key,
        client_ca=client_ca,
        client_auth=client_auth,
        allowed_sans=sans,
        minimum=minimum,
        maximum=maximum,
        ciphers=tuple(filter(None, ciphers)),
        server_order=order is None or order.boolean(),
        curves=_words(values.get("curve_preferences"), CURVES),
    )


def _client_auth(values: Mapping[str, Value], client_ca: Pem | None) -> tuple[str, frozenset[str]]:
    value = values.get("client_auth_type")
    if value and value.content in _UNVERIFIED:
        value.fail(
            "is not supported: any certificate would do, also one that its holder has just made;"
            " right is RequireAndVerifyClientCert, with client_ca_file"
        )
    kind = value.choice(_CLIENT_AUTH) if value else "none"
    if value and kind in ("optional", "required") and client_ca is None:
        value.fail(
            "needs client_ca_file: without it, a certificate of any public CA would be let in"
        )
    if client_ca is not None and (value is None or value.content == "NoClientCert"):
        client_ca.value.fail("needs client_auth_type: RequireAndVerifyClientCert, or is not used")
    listed = values.get("client_allowed_sans")
    if listed is None:
        return kind, frozenset()
    sans = frozenset(item.text("an alternative name of a certificate") for item in listed.items())
    if not sans:
        listed.fail("lists no name, so no client could come in: name one, or remove it")
    if kind != "required":
        listed.fail("needs client_auth_type: RequireAndVerifyClientCert, or is not used")
    return kind, sans


def _needed(section: Value, values: Mapping[str, Value], name: str) -> Pem:
    pem = _pem(section, values, name)
    if pem is None:
        section.fail(f"{name}_file is missing: TLS needs cert_file and key_file, or cert and key")
    return pem


def _pem(section: Value, values: Mapping[str, Value], name: str) -> Pem | None:
    inline, file = values.get(name), values.get(f"{name}_file")
    if inline and file:
        inline.fail(f"stands beside {name}_file: remove one of them")
    if inline:
        return Pem(inline, None, inline.text("text in PEM", MAX_BYTES))
    if file:
        path = file.text("the path of a file in PEM")
        return Pem(file, os.path.join(os.path.dirname(section.path), path))
    return None


def _version(value: Value | None, default: TLSVersion) -> TLSVersion:
    if value is None:
        return default
    if value.content in _OLD_VERSIONS:
        value.fail(
            "is not supported: TLS 1.0 and 1.1 are broken (RFC 8996); right are TLS12, TLS13"
        )
    return value.choice(_VERSIONS)


def _words(value: Value | None, words: Mapping[str, str]) -> tuple[str, ...]:
    """Return the meanings of a list's words, each once."""
    if value is None:
        return ()
    return tuple(dict.fromkeys(item.choice(words) for item in value.items()))
