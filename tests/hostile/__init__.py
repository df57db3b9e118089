"""Hostile and unlucky worlds: generated configurations, damaged artifacts, kills; ``python -m tests.hostile``."""
