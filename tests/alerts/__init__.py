"""Holds each alert against real programs that have what it names, and that look like it: ``./dev alerts``."""
