"""A View in words and in JSON: what all outputs for people share."""
