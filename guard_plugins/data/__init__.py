"""Data sets: what a plugin provides (``base``), the built-in ones, batching and augmentation."""
