"""Students of a run: what they learn from, the hook around them, and those that validate an unfinished set."""
