"""The files that follow from others: what each would be, made now."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from threadwatch import __version__

CONFIG: Final = Path(__file__).resolve().parent.parent / "config"
RULES: Final = CONFIG / "prometheus" / "rules" / "threadwatch.yml"
PROMETHEUS_RULE: Final = CONFIG / "kubernetes" / "prometheus-operator" / "prometheusrule.yaml"
CHART: Final = CONFIG / "helm" / "threadwatch"

OPEN: Final = frozenset(
    {
        *(
            "config",
            "env",
            "commonLabels",
            "annotations",
            "labels",
            "additionalLabels",
            "basicAuth",
            "tlsConfig",
        ),
        *(
            "attachMetadata",
            "securityContext",
            "containerSecurityContext",
            "resources",
            "livenessProbe",
        ),
        *("readinessProbe", "updateStrategy", "nodeSelector", "affinity"),
        *("daemonsetAnnotations", "podAnnotations", "podLabels"),
    }
)
"""Values of the chart that hold what Kubernetes, or the daemon, judges: any keys."""

_HEAD: Final = """\
# Made by ./dev manifests from config/prometheus/rules/threadwatch.yml: change that.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: threadwatch
  labels: {app.kubernetes.io/name: threadwatch}
spec:
"""


def prometheus_rule(rules: str) -> str:
    """Return the PrometheusRule that has these rules, a file for Prometheus, comments included."""
    return _HEAD + textwrap.indent(rules, "  ", lambda line: bool(line.strip()))


def tagged(text: str, version: str) -> str:
    """Return a kustomization, the chart's head or the Dockerfile, with the tags of a version."""
    return re.sub(
        r"^( *)(newTag: |version: |appVersion: |ARG VERSION=).*$",
        rf"\g<1>\g<2>{version}",
        text,
        flags=re.MULTILINE,
    )


def schema(value: Any, name: str = "") -> dict[str, Any]:
    """Return the JSON schema of a chart's value by its default: its type, and the keys that there are."""
    if isinstance(value, dict):
        if name in OPEN:
            return {"type": ["object", "null"]}
        keys = {key: schema(each, key) for key, each in value.items()}
        return {"type": "object", "properties": keys, "additionalProperties": False}
    for kind, word in ((bool, "boolean"), (int, "integer"), (list, "array")):
        if isinstance(value, kind):
            return {"type": [word, "null"]}
    return {"type": ["string", "null"]}


def values_schema(values: str) -> str:
    """Return the chart's ``values.schema.json``: helm refuses a value that there is not, and names it."""
    made = schema(yaml.safe_load(values))
    made["properties"]["global"] = {
        "type": "object"
    }  # helm adds it where the chart is a part of another
    return (
        json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **made}, indent=2) + "\n"
    )


def files() -> Iterator[tuple[Path, str]]:
    """Yield the path and the text of each file that follows from others."""
    yield PROMETHEUS_RULE, prometheus_rule(RULES.read_text(encoding="utf-8"))
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    yield CHART / "values.schema.json", values_schema(values)
    for path in (
        CHART / "Chart.yaml",
        CONFIG.parent / "Dockerfile",
        *sorted((CONFIG / "kubernetes").glob("*/kustomization.yaml")),
    ):
        yield path, tagged(path.read_text(encoding="utf-8"), __version__)
