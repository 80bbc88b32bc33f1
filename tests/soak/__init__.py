"""The soak: a real daemon under a real Prometheus, while everything around them has a hard time."""
