"""Holds the state of each watched process from poll to poll."""
