"""Students of a run: what they learn from, and those that validate an unfinished set."""
