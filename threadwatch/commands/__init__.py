"""Runs the command line: each command, and what the daemon's process needs around it."""
