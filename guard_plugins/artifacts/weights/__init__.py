"""Weights of any code base: read without running code, unwrapped, matched by name and shape to a known network."""
