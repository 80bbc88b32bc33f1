"""Readings to totals that never fall. Pure: no file, no clock."""
