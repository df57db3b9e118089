"""Distilled sets as files: found by a path, and written image by image where memory would not hold them."""
