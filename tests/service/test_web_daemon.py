"""``threadwatch serve`` with a web configuration and a Unix socket: from the command line to the log."""

from __future__ import annotations

import signal
import socket
import ssl
import stat
import subprocess
import urllib.request
from pathlib import Path

import pytest
import trustme

from tests import certificates
from tests.harness import DEADLINE, threadwatch, until
from tests.serving import serving
from tests.testbed import CHECKOUT

TLS = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"


def get(url: str, ca: Path) -> int:
    """Return the status of a request through TLS."""
    context = ssl.create_default_context(cafile=str(ca))
    with urllib.request.urlopen(url, timeout=DEADLINE, context=context) as response:  # noqa: S310 - our own daemon's address
        return int(response.status)


def test_a_daemon_with_tls_and_a_unix_socket(tmp_path: Path) -> None:
    """All addresses have the same rules; a bad change is logged once; the end leaves no file."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificates.write_pair(ca, tmp_path, "localhost", "127.0.0.1")
    config, path = tmp_path / "web.yml", tmp_path / "web.sock"
    config.write_text(TLS)
    with serving(
        tmp_path, f"--web.config.file={config}", f"--web.listen-address=unix:{path},mode=600"
    ) as daemon:
        url = daemon.url.replace("http:", "https:") + "/-/healthy"
        assert get(url, tmp_path / "ca.pem") == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE)
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
        until(lambda: f"address=unix:{path}" in daemon.text(), "both addresses are logged")

        complaint = f"{config}:1: tls_server_configs: unknown key: did you mean tls_server_config?"
        config.write_text("tls_server_configs: {}\n")
        for _ in range(3):
            assert get(url, tmp_path / "ca.pem") == 200
        assert daemon.text().count(complaint) == 1
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: daemon.text().count(complaint) == 2, "the complaint again")
        config.write_text(TLS)
        assert get(url, tmp_path / "ca.pem") == 200
        assert daemon.text().count('msg="web configuration read again"') == 1
        daemon.process.terminate()
        assert daemon.process.wait(DEADLINE) == 0
    assert not path.exists()
    assert "PRIVATE KEY" not in daemon.text()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            None,
            "web.yml: is not there: give the path of a YAML file, or leave out --web.config.file",
        ),
        (TLS, "web.yml:2: tls_server_config.cert_file: {}/cert.pem is not there"),
    ],
)
def test_a_daemon_does_not_start_without_its_rules(
    tmp_path: Path, config: str | None, message: str
) -> None:
    """A web configuration that cannot be used is one line and exit code 78, and nothing is served."""
    path = tmp_path / "web.yml"
    if config is not None:
        path.write_text(config)
    done = subprocess.run(
        threadwatch("serve", "--web.listen-address=127.0.0.1:0", f"--web.config.file={path}"),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr == f"threadwatch: {tmp_path}/{message.format(tmp_path)}\n"
