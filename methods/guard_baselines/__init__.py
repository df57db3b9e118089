"""The baselines of every table: noise images, and random real images."""
