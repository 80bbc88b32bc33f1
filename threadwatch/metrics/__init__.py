"""A View as Prometheus metrics."""
