"""Parses the configuration: YAML to frozen values, or one line that says what is wrong and where."""
