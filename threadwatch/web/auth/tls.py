"""TLS: from settings to a context that is known to work, with what to say of its certificate.

Files are read here, once, and handed to OpenSSL in memory: what was looked at is what is used.
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

from threadwatch.config.document import MAX_BYTES
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
    """What a new connection is served with."""

    context: ssl.SSLContext
    policy: tuple[object, ...]
    """All that says who is let in and how. If it changes, older connections must not go on."""
    allowed_sans: frozenset[str]
    valid_until: str
    """The end of the certificate, as OpenSSL writes it; empty: a warning says what is wrong with it."""
    warnings: tuple[str, ...]
    """What an administrator should know of the certificate: it has expired, for example."""

    def lets_in(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a client with this (verified) certificate is one of those who may come in."""
        return not self.allowed_sans or not self.allowed_sans.isdisjoint(_sans(certificate or {}))


class _Encrypted(Exception):
    """OpenSSL has asked for the passphrase of a key."""


def build(settings: TlsSettings) -> Tls:
    """What serves these settings. Raises ConfigError, a line that says what is wrong with which file."""
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
        # any certificate of the file is trusted, also one that is not the root of its chain
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = _CLIENT_AUTH[settings.client_auth]
        # each connection is verified anew
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
    except FileNotFoundError:
        pem.value.fail(f"{pem.path} is not there")
    except PermissionError:
        pem.value.fail(
            f"{pem.path} cannot be read: permission denied: let the user that threadwatch runs as read it"
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or str(error)
        pem.value.fail(f"{pem.path} cannot be read: {why}")
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
        place.fail(f"{what} is encrypted, and nobody is there to type the passphrase: decrypt it")
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
    """Fail unless there are certificates, and each is one."""
    blocks = _blocks(data)
    if not blocks:
        pem.value.fail(f"{_what(pem)} holds no certificate in PEM (BEGIN CERTIFICATE)")
    for number, block in enumerate(blocks, 1):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=block)
        except ssl.SSLError:
            pem.value.fail(f"{_what(pem)}: certificate {number} in it is broken")


def _blocks(data: bytes) -> list[str]:
    """Each certificate in PEM; what stands before, between and behind them means nothing."""
    return [block[0].decode("ascii", "backslashreplace") for block in _CERTIFICATE.finditer(data)]


def _try(
    context: ssl.SSLContext, settings: TlsSettings, certificate: bytes
) -> tuple[str, tuple[str, ...]]:
    """Shake hands with ourselves: that nobody can be served should be known before somebody asks.

    The end of the certificate's life, and what clients will say against it.
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
        settings.place.fail(f"nobody can be served with this: {_reason(error)}")
    client.verify_mode = ssl.CERT_NONE
    try:
        _shake_hands(context, client)
    except ssl.SSLError as error:
        settings.place.fail(f"nobody can be served with this: {_reason(error)}")
    name = settings.cert.path or settings.cert.value.key
    return "", (f"clients will refuse {name}: {one_line(complaint)}",)


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """The server's certificate, as a client sees it. Raises SSLError, the client's or the server's."""
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
    """A path that has ``data``, for a function that wants a file: nothing is written to a disk."""
    fd = os.memfd_create("pem")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _sans(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Alternative names as Go writes them: DNS names, mail addresses, URIs, IP addresses."""
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in ("DNS", "email", "URI"):
            yield value
        elif kind == "IP Address":
            with contextlib.suppress(ValueError):
                yield str(ipaddress.ip_address(value))


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words: ``no shared cipher``."""
    if error.reason:
        return error.reason.lower().replace("_", " ")
    return one_line(str(error.strerror or error).partition(" (_ssl")[0])
