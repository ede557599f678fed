"""Runs that begin by themselves, and versions that earn their place."""
