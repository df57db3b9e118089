"""Attacks in pixel space, and the base class plugins implement."""
