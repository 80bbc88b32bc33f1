"""Turns readings into totals that never fall. Pure: no file, no clock."""
