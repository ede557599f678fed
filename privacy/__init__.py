"""What makes a release safe: plans, accounting, the ledger, DP-SGD, encrypted sums, keys. Knows nothing of Flower or Ray."""
