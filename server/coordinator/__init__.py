"""The coordinator of a deployed federation: its processes, who is admitted, the runs it was given."""
