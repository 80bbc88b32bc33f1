"""Reads processes in a thread that can be given up, so that no target makes the daemon wait."""
