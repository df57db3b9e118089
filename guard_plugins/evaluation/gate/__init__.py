"""The release gate: what a robustness figure must pass before it may be quoted."""
