"""Turns a View into Prometheus metrics."""
