"""Writes what Kubernetes needs in a form of its own from the files that have it: ``python -m manifests``.

The alerts have their home in ``config/prometheus/rules``; prometheus-operator wants them in a
PrometheusRule. The version has its home in the package; images and the chart carry it as a tag. Dashboards
are not copied: kustomize takes them from ``config/grafana``, and the chart has a link.
"""
