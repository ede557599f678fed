"""Questions to all clients, whose answer is a sum of whole numbers; one a file."""
