"""The release gate: the checks a robustness figure must pass before it may be quoted."""
