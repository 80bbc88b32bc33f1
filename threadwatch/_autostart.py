"""Where start-up files of earlier versions find what they run (packaging/prometheus-threadwatch.pth)."""

from threadwatch.publisher.autostart import main

__all__ = ["main"]
