"""Certificates and keys for tests, made anew by trustme, and web configurations that use them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def write_pair(ca: trustme.CA, directory: Path, *names: str, stem: str = "") -> trustme.LeafCert:
    """Write a certificate for these names and its key, as cert.pem and key.pem (with a stem before them)."""
    leaf = ca.issue_cert(*names)
    (directory / f"{stem}cert.pem").write_bytes(chain(leaf))
    leaf.private_key_pem.write_to_path(directory / f"{stem}key.pem")
    return leaf


def chain(leaf: trustme.LeafCert) -> bytes:
    """Return the certificate, and those between it and the root."""
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


def expired(ca: trustme.CA) -> trustme.LeafCert:
    """Return a certificate whose time is over."""
    day = dt.timedelta(days=1)
    return ca.issue_cert("localhost", not_before=LONG_AGO, not_after=LONG_AGO + day)


def write_all(directory: Path) -> None:
    """Write every kind of file that a web configuration of ``tests/fixtures/web`` names."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(directory / "ca.pem")
    leaf = write_pair(ca, directory, "localhost", "127.0.0.1")
    cert, key = chain(leaf), leaf.private_key_pem.bytes()
    old = expired(ca)
    lines = cert.splitlines(keepends=True)
    encrypted = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    for name, content in {
        "both.pem": key + cert,
        "explained.pem": "# für den Köter\n".encode() + cert + "\n# Ende ü\n".encode("latin-1"),
        "expired.pem": chain(old),
        "expired-key.pem": old.private_key_pem.bytes(),
        "broken.pem": lines[0] + b"".join(lines[3:]),
        "no-base64.pem": lines[0] + b"!" * 64 + b"\n" + b"".join(lines[1:]),
        "broken-key.pem": key.replace(b"\nM", b"\nA", 1),
        "encrypted-key.pem": encrypted,
    }.items():
        (directory / name).write_bytes(content)


def fill_in(text: bytes, directory: Path) -> bytes:
    """Return a configuration in which ``@DIR@`` and lines such as ``    @cert.pem@`` are replaced."""
    lines = []
    for line in text.replace(b"@DIR@", bytes(directory)).splitlines(keepends=True):
        word = line.strip()
        if word.startswith(b"@") and word.endswith(b"@"):
            indent = line[: line.index(b"@")]
            content = (directory / word.strip(b"@").decode()).read_bytes()
            lines += [indent + inner for inner in content.splitlines(keepends=True)]
        else:
            lines.append(line)
    return b"".join(lines)
