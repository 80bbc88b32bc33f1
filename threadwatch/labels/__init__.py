"""Chooses the names of groups and series. Pure."""
