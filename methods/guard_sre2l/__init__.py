"""SRe2L (Yin, Xing & Shen, NeurIPS 2023, arXiv 2306.13092) as a plugin: squeeze, recover, relabel."""

from guard_plugins import Method, hookimpl


@hookimpl
def register_methods() -> list[type[Method]]:
    """Register the method."""
    from guard_sre2l.method import SRe2L

    return [SRe2L]
