"""Trying settings on rows that are nobody's."""
