"""The files for Kubernetes: made from those that have the facts, and with no more rights than are named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.files import CHART, CONFIG, files
from tests.testbed import CHECKOUT

KUBERNETES = CONFIG / "kubernetes"
DAEMON_SET = yaml.safe_load((KUBERNETES / "base" / "daemonset.yaml").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
BASE: dict[str, Any] = DAEMON_SET["spec"]["template"]["spec"]["containers"][0]


def test_files_are_what_the_script_makes() -> None:
    """./dev manifests would change nothing: alerts, versions and the chart's schema are in step."""
    stale = [
        str(path.relative_to(CHECKOUT))
        for path, text in files()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run ./dev manifests"


def test_the_chart_has_the_dashboards_and_alerts_by_link() -> None:
    """What the chart takes from elsewhere is no copy, so it cannot fall behind."""
    for name, home in (("dashboards", "grafana/dashboards"), ("rules", "prometheus/rules")):
        assert (CHART / name).is_symlink()
        assert (CHART / name).resolve() == CONFIG / home


@pytest.mark.parametrize(
    "context",
    [BASE["securityContext"], VALUES["containerSecurityContext"]],
    ids=["kustomize", "helm"],
)
def test_the_daemon_has_the_units_capabilities_and_no_other_right(context: dict[str, Any]) -> None:
    """Root with the capabilities of systemd's unit, on a file system that it cannot write to."""
    unit = (CHECKOUT / "systemd" / "threadwatch.service").read_text()
    named = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    assert named
    assert context == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {
            "drop": ["ALL"],
            "add": [name.removeprefix("CAP_") for name in named[1].split()],
        },
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@pytest.mark.parametrize("component", ["sidecar", "instrument"])
def test_components_need_no_right_at_all(component: str) -> None:
    """What goes into an application's pod meets the level restricted of the Pod Security Standards."""
    kustomization = yaml.safe_load((KUBERNETES / component / "kustomization.yaml").read_text())
    pod = yaml.safe_load(kustomization["patches"][0]["patch"])["spec"]["template"]["spec"]
    ours = [
        container
        for container in pod.get("initContainers", []) + pod["containers"]
        if container.get("image") == "threadwatch"
    ]
    assert ours
    for container in ours:
        assert container["securityContext"] == {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }


@pytest.mark.parametrize("path", sorted((CONFIG / "grafana" / "dashboards").iterdir()), ids=str)
def test_dashboards_can_be_applied(path: Path) -> None:
    """Each fits into an annotation, where kubectl apply keeps what was applied last (256 KiB in all)."""
    assert len(yaml.dump(path.read_text(), width=10**6)) < 200 * 1024


def test_grafana_gets_every_dashboard() -> None:
    """The kustomization of config/grafana names every dashboard that there is."""
    kustomization = yaml.safe_load((CONFIG / "grafana" / "kustomization.yaml").read_text())
    named = [file for each in kustomization["configMapGenerator"] for file in each["files"]]
    there = sorted((CONFIG / "grafana" / "dashboards").glob("*.json"))
    assert sorted(named) == [f"dashboards/{path.name}" for path in there]
