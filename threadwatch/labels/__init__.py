"""What groups and series are called. Pure."""
