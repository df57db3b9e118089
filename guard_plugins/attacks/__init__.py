"""Attacks in pixel space, one per module, and their base class.

An attack is one file here: the host finds it, and the class declares its name and its part in the release gate.
"""
