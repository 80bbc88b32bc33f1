"""The compose file: valid by the specification's schema, and what it mounts and asks for is there."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml

from tests import programs
from tests.testbed import CHECKOUT, require

FILE = CHECKOUT / "config" / "compose" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())


def test_it_is_valid() -> None:
    """The schema of the compose specification has a place for everything in it."""
    environment = programs.environment(require(3, 11), "check-jsonschema==0.39.0")
    check = ("-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE))
    done = subprocess.run(
        [*programs.python(require(3, 11), environment), *check],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_mounted_is_there() -> None:
    """Each directory of the checkout that a service mounts exists, and is mounted for reading only."""
    mounts = [
        mount.split(":")
        for service in COMPOSE["services"].values()
        for mount in service.get("volumes", [])
    ]
    ours = [mount for mount in mounts if mount[0].startswith(".")]
    assert len(ours) == 3
    for source, _, mode in ours:
        assert (FILE.parent / source).is_dir()
        assert mode == "ro"
    assert {source for source, *_ in mounts if not source.startswith(".")} == set(
        COMPOSE["volumes"]
    )
    assert (FILE.parent / COMPOSE["services"]["shop"]["build"]["context"] / "Dockerfile").exists()


def test_the_files_of_config_serve_as_they_are() -> None:
    """Prometheus and Grafana share threadwatch's loopback, at which their own files look for each other."""
    services = COMPOSE["services"]
    assert {services[name]["network_mode"] for name in ("threadwatch", "grafana")} == {
        "service:prometheus"
    }
    prometheus = yaml.safe_load((CHECKOUT / "config/prometheus/prometheus.yml").read_text())
    assert prometheus["scrape_configs"][0]["static_configs"] == [{"targets": ["127.0.0.1:9749"]}]
    grafana = CHECKOUT / "config/grafana/provisioning"
    (source,) = yaml.safe_load((grafana / "datasources/threadwatch.yml").read_text())["datasources"]
    assert source["url"] == "http://localhost:9090"
    (provider,) = yaml.safe_load((grafana / "dashboards/threadwatch.yml").read_text())["providers"]
    mounted = {mount.split(":")[1] for mount in services["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted


def test_the_daemon_has_the_two_capabilities_and_the_port_is_the_machines_alone() -> None:
    """threadwatch is root without any other right, and nothing is published beyond the loopback."""
    services = COMPOSE["services"]
    daemon = services["threadwatch"]
    assert (daemon["pid"], daemon["user"], daemon["read_only"]) == ("host", "0:0", True)
    assert (daemon["cap_drop"], daemon["cap_add"]) == (["ALL"], ["SYS_PTRACE", "DAC_READ_SEARCH"])
    assert daemon["security_opt"] == ["no-new-privileges:true"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
