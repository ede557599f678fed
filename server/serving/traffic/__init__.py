"""Which versions answer, and whose questions."""
