"""What became of predictions, and what follows from it for the versions that made them."""
