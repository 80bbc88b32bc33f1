"""Runs one poll from end to end; returns a View."""
