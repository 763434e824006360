"""Calls of several threads: one computed after the other, together or side by side."""
