"""``guard-eval``: evaluates a checkpoint, or students of a distilled set, outside of a run."""
