"""Kinds of columns, one a file."""
