"""Decides which processes are watched, and in which group."""
