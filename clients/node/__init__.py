"""A client as a node of a deployed federation: its processes and its owner's commands."""
