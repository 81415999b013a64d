"""Measured side by side with peers, in one run; nothing here asserts a time."""
