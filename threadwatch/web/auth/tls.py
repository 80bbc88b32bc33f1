"""Makes TLS contexts from settings: tested ones, with warnings about their certificates.

Files are read here, once, and handed to OpenSSL in memory: the bytes that were checked are those
that are used.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from threadwatch.config.document import MAX_BYTES, why_unread
from threadwatch.config.value import one_line
from threadwatch.web.auth.settings import Pem, TlsSettings

_CERTIFICATE: Final = re.compile(
    b"-----BEGIN CERTIFICATE-----.*?(?:-----END CERTIFICATE-----|$)", re.DOTALL
)
_PRIVATE_KEY: Final = b"PRIVATE KEY-----"
_CLIENT_AUTH: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


@dataclass(frozen=True, slots=True)
class Tls:
    """The TLS context for new connections."""

    context: ssl.SSLContext
    policy: tuple[object, ...]
    """All that decides which clients are let in and how. After a change, older connections end."""
    allowed_sans: frozenset[str]
    valid_until: str
    """The end of the certificate's validity, as OpenSSL writes it; empty: a warning says what is
    wrong with it."""
    warnings: tuple[str, ...]
    """What an administrator should know of the certificate: that it has expired, for example."""

    def lets_in(self, certificate: Mapping[str, Any] | None) -> bool:
        """Return whether a client with this (verified) certificate may come in."""
        return not self.allowed_sans or not self.allowed_sans.isdisjoint(_sans(certificate or {}))


class _Encrypted(Exception):
    """OpenSSL asks for the passphrase of a key."""


def build(settings: TlsSettings) -> Tls:
    """Return the TLS context for these settings. Raises ConfigError: a line about the file at fault."""
    certificate, key = _read(settings.cert), _read(settings.key)
    client_ca = _read(settings.client_ca) if settings.client_ca else b""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = settings.minimum, settings.maximum
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    if not settings.server_order:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _set_ciphers(context, settings)
    _set_curves(context, settings)
    _load(context, settings, certificate, key)
    valid_until, warnings = _try(context, settings, certificate)
    if settings.client_ca is not None and settings.client_auth != "none":
        _check_certificates(settings.client_ca, client_ca)
        context.load_verify_locations(cadata="\n".join(_blocks(client_ca)))
        # Any certificate of the file is trusted, even if it is not the root of its chain.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = _CLIENT_AUTH[settings.client_auth]
        # Verify each connection anew.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    policy = (
        *(settings.minimum, settings.maximum, settings.ciphers, settings.curves),
        *(settings.client_auth, settings.allowed_sans, client_ca),
    )
    return Tls(context, policy, settings.allowed_sans, valid_until, warnings)


def _read(pem: Pem) -> bytes:
    if pem.path is None:
        return pem.text.encode()
    try:
        with Path(pem.path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        pem.value.fail(f"{pem.path} {why_unread(error)}")
    if len(data) > MAX_BYTES:
        pem.value.fail(f"{pem.path} is larger than {MAX_BYTES >> 20} MiB: is it the right file?")
    return data


def _what(pem: Pem) -> str:
    return "it" if pem.path is None else pem.path


def _set_ciphers(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if not settings.ciphers:
        return
    try:
        context.set_ciphers(":".join(settings.ciphers))
    except ssl.SSLError as error:
        settings.place.fail(f"cipher_suites: this OpenSSL has none of them: {_reason(error)}")


def _set_curves(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if not settings.curves:
        return
    set_groups = getattr(context, "set_groups", None)  # Python 3.15
    try:
        if set_groups is not None:
            set_groups(":".join(settings.curves))
        elif len(settings.curves) == 1:
            context.set_ecdh_curve(settings.curves[0])
        else:
            settings.place.fail(
                "curve_preferences: this Python can set one curve alone (3.15 and later: several):"
                " name one, or remove the key for OpenSSL's choice"
            )
    except (ssl.SSLError, ValueError) as error:
        settings.place.fail(f"curve_preferences: this OpenSSL lacks one: {one_line(str(error))}")


def _load(context: ssl.SSLContext, settings: TlsSettings, certificate: bytes, key: bytes) -> None:
    _check_certificates(settings.cert, certificate)
    place, what = settings.key.value, _what(settings.key)
    if _PRIVATE_KEY not in key:
        place.fail(f"{what} holds no private key in PEM (BEGIN PRIVATE KEY)")

    def no_passphrase() -> str:
        raise _Encrypted

    try:
        with _in_memory(certificate) as cert_path, _in_memory(key) as key_path:
            context.load_cert_chain(cert_path, key_path, password=no_passphrase)
    except _Encrypted:
        place.fail(f"{what} is encrypted, and the daemon has no passphrase for it: decrypt it")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            place.fail(
                f"the key does not belong to the certificate of {settings.cert.value.key}:"
                " both have to be renewed together"
            )
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            settings.cert.value.fail(
                f"{_what(settings.cert)} is too weak for this machine's OpenSSL: {_reason(error)}"
            )
        place.fail(f"{what} holds no private key that can be used: {_reason(error)}")


def _check_certificates(pem: Pem, data: bytes) -> None:
    """Raise ConfigError unless the file has certificates and each of them is valid PEM."""
    blocks = _blocks(data)
    if not blocks:
        pem.value.fail(f"{_what(pem)} holds no certificate in PEM (BEGIN CERTIFICATE)")
    for number, block in enumerate(blocks, 1):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=block)
        except ssl.SSLError:
            pem.value.fail(f"{_what(pem)}: certificate {number} in it is broken")


def _blocks(data: bytes) -> list[str]:
    """Return each certificate in PEM; text before, between and behind them is ignored."""
    return [block[0].decode("ascii", "backslashreplace") for block in _CERTIFICATE.finditer(data)]


def _try(
    context: ssl.SSLContext, settings: TlsSettings, certificate: bytes
) -> tuple[str, tuple[str, ...]]:
    """Shake hands with ourselves, so that a configuration that serves no client is refused before it is used.

    Return the end of the certificate's validity, and the objections that clients will have to it.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.set_ciphers("ALL")
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=_blocks(certificate)[0])
    try:
        return str(_shake_hands(context, client)["notAfter"]), ()
    except ssl.SSLCertVerificationError as error:
        complaint = error.verify_message
    except ssl.SSLError as error:
        settings.place.fail(f"no client can be served with this: {_reason(error)}")
    client.verify_mode = ssl.CERT_NONE
    try:
        _shake_hands(context, client)
    except ssl.SSLError as error:
        settings.place.fail(f"no client can be served with this: {_reason(error)}")
    name = settings.cert.path or settings.cert.value.key
    return "", (f"clients will refuse {name}: {one_line(complaint)}",)


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Return the server's certificate, as a client sees it. Raises SSLError, the client's or the server's."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    sides = [asking, server.wrap_bio(to_server, to_client, server_side=True)]
    while sides:
        for side in tuple(sides):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
                sides.remove(side)
    return asking.getpeercert() or {}


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """Make a path that has ``data``, for a function that needs a file: nothing is written to a disk."""
    fd = os.memfd_create("pem")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _sans(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Yield alternative names as Go writes them: DNS names, mail addresses, URIs, IP addresses."""
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in ("DNS", "email", "URI"):
            yield value
        elif kind == "IP Address":
            with contextlib.suppress(ValueError):
                yield str(ipaddress.ip_address(value))


def _reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in words: ``no shared cipher``."""
    if error.reason:
        return error.reason.lower().replace("_", " ")
    return one_line(str(error.strerror or error).partition(" (_ssl")[0])
