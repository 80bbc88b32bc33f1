"""The manifests and the chart, made by real kubectl and helm, judged by the schemas of API servers."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import kubernetes
from tests.testbed import CHECKOUT

ALL = [
    f"--set={name}.enabled=true"
    for name in (
        "prometheus.podMonitor",
        "prometheus.monitor",
        "prometheus.rule",
        "dashboards",
        "service",
    )
]
OTHERWISE = {
    "image": {"registry": "registry.example", "digest": f"sha256:{'0' * 64}"},
    "extraArgs": ["--log.level=debug"],
    "env": {"THREADWATCH_DEBUG": 1},
    "configmaps": [{"name": "web", "mountPath": "/etc/web"}],
    "secrets": [{"name": "tls", "mountPath": "/etc/tls"}],
    "extraHostVolumeMounts": [{"name": "run", "hostPath": "/run/tw", "mountPath": "/run/tw"}],
    "securityContext": {"seLinuxOptions": {"type": "spc_t"}},
    "affinity": {"nodeAffinity": {}},
    "imagePullSecrets": [{"name": "pull"}],
    "priorityClassName": "system-node-critical",
    "serviceAccount": {"create": False},
    "config": {"poll_interval": "500ms", "groups": [{"name": "shop", "match": {"user": "^1$"}}]},
    "networkPolicy": {"ingress": [{"ports": [{"port": 9749}]}]},
    "service": {"type": "NodePort"},
    "prometheus": {
        "podMonitor": {
            "interval": "30s",
            "sampleLimit": 5_000_000,
            "attachMetadata": {"node": True},
        }
    },
    "dashboards": {"namespace": "grafana", "annotations": {"grafana_folder": "threadwatch"}},
}
"""Values that take the ways through the templates that the defaults do not."""


def _otherwise() -> list[str]:
    return [f"--set-json={key}={json.dumps(value)}" for key, value in OTHERWISE.items()]


def _only(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


@pytest.fixture(scope="module")
def judged() -> dict[str, list[str]]:
    """Return what the schemas find wrong with all objects, and with two faults made on purpose.

    In one go: to load the operator's schemas takes seconds.
    """
    complete, example = kubernetes.kustomize("complete"), kubernetes.kustomize("example")
    chart, otherwise = kubernetes.template(*ALL), kubernetes.template(*_otherwise(), *ALL)
    broken = copy.deepcopy(complete)
    container = _only(broken, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
    container["livenessProbe"]["httpGet"]["paht"] = "/"
    monitors = [each for each in broken if each["kind"] == "PodMonitor"]
    monitors[0]["spec"]["podMetricsEndpoints"][0]["intervall"] = "1s"
    kinds = {each["kind"] for each in (*complete, *example, *chart)}
    assert {"DaemonSet", "Deployment", "PodMonitor", "ServiceMonitor", "PrometheusRule"} <= kinds
    named = {
        "kustomize": complete + example,
        "helm": chart,
        "otherwise": otherwise,
        "broken": broken,
    }
    ends = (kubernetes.VERSIONS[0], kubernetes.VERSIONS[-1])
    return dict(zip(named, kubernetes.faults(list(named.values()), *ends), strict=True))


@pytest.mark.parametrize("made", ["kustomize", "helm", "otherwise"])
def test_everything_is_valid(judged: dict[str, list[str]], made: str) -> None:
    """All fits the oldest and newest Kubernetes' schemas, and the operator's, without an unknown field."""
    assert judged[made] == []


def test_the_schemas_find_faults(judged: dict[str, list[str]]) -> None:
    """A misspelt field is found, deep in a DaemonSet and in a PodMonitor."""
    found = "\n".join(judged["broken"])
    assert "'paht' was unexpected" in found
    assert "intervall is unknown" in found


def test_the_chart_by_default_is_the_base() -> None:
    """helm and kustomize give the same daemon, policy, account and configuration, but for labels."""
    chart, base = kubernetes.template(), kubernetes.kustomize("base")

    def pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
        spec: dict[str, Any] = _only(objects, "DaemonSet")["spec"]
        assert spec["updateStrategy"] == {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "10%"},
        }
        made: dict[str, Any] = spec["template"]["spec"]
        (container,) = made["containers"]
        container.pop("imagePullPolicy", None)
        for probe in ("livenessProbe", "readinessProbe"):
            container[probe]["httpGet"].pop("scheme", None)
        made["volumes"][0]["configMap"].pop("name")
        return made

    assert pod(chart) == pod(base)
    for kind, key in (
        ("PriorityClass", "value"),
        ("ServiceAccount", "automountServiceAccountToken"),
    ):
        assert _only(chart, kind)[key] == _only(base, kind)[key]
    for objects in (chart, base):
        policy = _only(objects, "NetworkPolicy")["spec"]
        assert policy["egress"] == []
        assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": "metrics"}]


def test_one_set_of_alerts_and_dashboards() -> None:
    """The chart's alerts and dashboards are those of the kustomization, to the letter."""
    chart, complete = kubernetes.template(*ALL), kubernetes.kustomize("complete")
    assert _only(chart, "PrometheusRule")["spec"] == _only(complete, "PrometheusRule")["spec"]

    def dashboards(objects: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            name: json.loads(text)
            for each in objects
            if each["kind"] == "ConfigMap"
            and each["metadata"]["labels"].get("grafana_dashboard") == "1"
            for name, text in each["data"].items()
        }

    assert len(dashboards(chart)) == 4
    assert dashboards(chart) == dashboards(complete)


def test_other_values_do_what_they_say(tmp_path: Path) -> None:
    """Values that differ from the defaults are where they belong, and helm finds no fault."""
    kubernetes.lint(*_otherwise(), *ALL)
    objects = kubernetes.template(*_otherwise(), *ALL)
    pod = _only(objects, "DaemonSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == f"registry.example/threadwatch@sha256:{'0' * 64}"
    assert container["args"][-1] == "--log.level=debug"
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {
        *("/etc/threadwatch", "/etc/web", "/etc/tls", "/run/tw")
    }
    assert pod["priorityClassName"] == "system-node-critical"
    assert pod["serviceAccountName"] == "default"
    assert not [each for each in objects if each["kind"] in {"PriorityClass", "ServiceAccount"}]
    (config,) = (each for each in objects if "threadwatch.yml" in each.get("data", {}))
    (tmp_path / "threadwatch.yml").write_text(config["data"]["threadwatch.yml"])
    check = subprocess.run(
        [".venv/bin/threadwatch", "check-config", str(tmp_path / "threadwatch.yml")],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "ok, 1 group, poll every 500ms" in check.stdout


def test_a_value_that_there_is_not_is_refused() -> None:
    """helm names a misspelt value instead of passing over it."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubernetes.template("--set=prometheus.podMonitor.enable=true")
    assert "enable" in refused.value.stderr
