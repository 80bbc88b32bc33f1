"""Defines the frozen values that pass between the parts. Imports nothing of the rest."""
