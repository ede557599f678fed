"""What makes a release safe: plans, accounting, ledger, DP-SGD, encrypted sums, keys. Knows neither Flower nor Ray."""
