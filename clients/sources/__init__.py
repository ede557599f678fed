"""Where the data lie."""
