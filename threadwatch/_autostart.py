"""Serves the start-up files of earlier versions, which import it (packaging/prometheus-threadwatch.pth)."""

from threadwatch.publisher.autostart import main

__all__ = ["main"]
