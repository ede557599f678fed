"""What a process needs of its machine: files, locks, children, TLS. Knows nothing of learning."""
