"""Models: built alike wherever they are trained or asked."""
