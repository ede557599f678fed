"""A federation on one machine or one Ray cluster: the Ray grid, data sets, partitioners, ready configurations."""
