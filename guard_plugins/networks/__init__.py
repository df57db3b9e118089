"""Architectures: what a plugin provides (``base``), the built-in ones, and normalisation inside the model."""
