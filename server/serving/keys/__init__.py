"""Keys of those who may ask."""
