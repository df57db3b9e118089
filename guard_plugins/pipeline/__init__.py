"""The stages of ``guard-run``, and the runner that knows their order."""
