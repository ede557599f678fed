"""Versions that answer requests, on Ray Serve."""
