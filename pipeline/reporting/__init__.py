"""Showing people what a run does and what it made."""
