"""A run in several processes: beside the one that does it, under a launcher, and in shares."""
