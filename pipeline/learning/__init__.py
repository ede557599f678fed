"""What is learned, from what, and how it is judged: values, without network or disk."""
