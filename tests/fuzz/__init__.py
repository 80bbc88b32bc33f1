"""Fuzzing: what every parser promises for any bytes, and a command that looks for counterexamples."""
