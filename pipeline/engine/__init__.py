"""Running a graph of stages on Ray. Knows nothing of what they do."""
