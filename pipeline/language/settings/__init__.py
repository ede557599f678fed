"""Settings of a run, one section a file."""
